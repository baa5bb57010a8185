"""A certificate is genuine in exactly one spelling, and what it states comes back unchanged."""

import base64
import json
import string
import unicodedata
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import jwt
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bkapp.address import codes
from bkapp.address.certificates import (
    LONGEST_TOKEN,
    TYPE,
    BadCertificate,
    Reason,
    Signer,
    Statement,
    judge,
    link,
    verify,
)

SEED = bytes(range(32))
SIGNER = Signer([("2025a", SEED)])
STATEMENT = Statement(
    code="482719346",
    status="current",
    unit_code="01954",
    unit_name="Xã Ngân Sơn",
    unit_valid_from=date(2025, 7, 1),
    hamlet="Thôn Nà Ít",
    revision=3,
    issued_at=datetime(2025, 8, 2, 3, 4, 5, tzinfo=UTC),
    issuer="https://bkapp.example",
)
TOKEN = SIGNER.sign(STATEMENT)

payloads = st.integers(1_000_000, 9_999_999).map(codes.complete).filter(lambda code: code is not None)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)
statements = st.builds(
    Statement,
    code=payloads,
    status=st.sampled_from(["proposed", "current", "retired", "rejected"]),
    unit_code=st.from_regex(r"[0-9]{5}", fullmatch=True).filter(str.isascii),
    unit_name=names,
    unit_valid_from=st.dates(),
    hamlet=st.none() | names,
    revision=st.integers(1, 2**53 - 1),
    issued_at=st.datetimes(datetime(1970, 1, 2), datetime(4000, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    issuer=st.sampled_from(["https://bkapp.example", "http://localhost:8000", "https://a.example/dia-chi"]),
    plus_code=st.none() | st.just("7PH74RWM+RR") | st.just("7PH74RWM+RRX"),
)


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def forged(header: Any = None, payload: Any = None, *, signer: Signer = SIGNER) -> str:
    """A token whose signature is right for parts that are not."""
    parts = TOKEN.split(".")
    if header is not None:
        parts[0] = b64(header if isinstance(header, bytes) else msgspec.json.encode(header))
    if payload is not None:
        parts[1] = b64(payload if isinstance(payload, bytes) else msgspec.json.encode(payload))
    signed = ".".join(parts[:2])
    return f"{signed}.{b64(signer._private[signer.kid].sign(signed.encode()))}"


def claims(**changes: object) -> dict[str, Any]:
    found = json.loads(base64.urlsafe_b64decode(TOKEN.split(".")[1] + "=="))
    return {name: value for name, value in (found | changes).items() if value is not ...}


def header(**changes: object) -> dict[str, Any]:
    return {"alg": "EdDSA", "kid": "2025a", "typ": TYPE} | changes


def refusal(token: str, keys: Any = SIGNER) -> Reason:
    with pytest.raises(BadCertificate) as caught:
        verify(token, keys)
    assert isinstance(caught.value, ValueError)
    return caught.value.reason


class TestSigning:
    @given(statements)
    def test_a_statement_comes_back_as_it_was_signed(self, statement: Statement) -> None:
        # Text is signed in NFC and times to the second.
        normal = msgspec.json.decode(
            msgspec.json.encode(
                msgspec.structs.replace(statement, issued_at=statement.issued_at.replace(microsecond=0))
            ),
            type=Statement,
        )
        found = verify(SIGNER.sign(statement), SIGNER.jwks())

        assert found == msgspec.structs.replace(normal, unit_name=found.unit_name, hamlet=found.hamlet)
        assert found.unit_name in {statement.unit_name, _nfc(statement.unit_name)}
        assert found.hamlet == (statement.hamlet and _nfc(statement.hamlet))

    def test_an_old_plate_stays_verifiable_word_for_word(self) -> None:
        # Frozen: if this fails, plates that hang on walls have stopped working.
        assert TOKEN == (
            "eyJhbGciOiJFZERTQSIsImtpZCI6IjIwMjVhIiwidHlwIjoiYmstYWRkcmVzcytqd3QifQ.eyJpc3MiOiJodHRwczovL2JrYXBwL"
            "mV4YW1wbGUiLCJzdWIiOiJCSzQ4MjcxOTM0NiIsImlhdCI6MTc1NDEwMzg0NSwic3QiOiJjdXJyZW50IiwidSI6IjAxOTU0Iiwid"
            "W4iOiJYw6MgTmfDom4gU8ahbiIsInVmIjoiMjAyNS0wNy0wMSIsInJldiI6MywiaCI6IlRow7RuIE7DoCDDjXQifQ.hKlQtPpjcv"
            "b09dHBVDHehRzKSnp9ZLy7YUB_pei63yqOtBUO0CJ1ZirOCOPSBCIeY4Lpz4bor7SNzet1fMRvCQ"
        )

    def test_any_library_can_verify_it_from_the_published_keys(self) -> None:
        published = jwt.PyJWKSet.from_dict(json.loads(json.dumps(SIGNER.jwks())))

        found = jwt.decode(TOKEN, published["2025a"], algorithms=["EdDSA"])

        assert found == {
            "iss": "https://bkapp.example",
            "sub": "BK482719346",
            "iat": 1754103845,
            "st": "current",
            "u": "01954",
            "un": "Xã Ngân Sơn",
            "uf": "2025-07-01",
            "rev": 3,
            "h": "Thôn Nà Ít",
        }

    def test_it_names_nobody_and_tells_no_point_unless_asked(self) -> None:
        assert set(claims()) == {"iss", "sub", "iat", "st", "u", "un", "uf", "rev", "h"}
        with_point = SIGNER.sign(msgspec.structs.replace(STATEMENT, plus_code="7PH74RWM+RR"))
        assert verify(with_point, SIGNER).plus_code == "7PH74RWM+RR"

    def test_names_are_signed_in_nfc(self) -> None:
        decomposed = msgspec.structs.replace(STATEMENT, unit_name="Xa\u0303 Nga\u0302n So\u031bn")

        assert SIGNER.sign(decomposed) == TOKEN

    def test_any_time_zone_gives_the_same_text(self) -> None:
        here = STATEMENT.issued_at.astimezone(timezone(timedelta(hours=7)))

        assert SIGNER.sign(msgspec.structs.replace(STATEMENT, issued_at=here)) == TOKEN

    @pytest.mark.parametrize(
        "wrong",
        [
            {"code": "482719347"},
            {"code": "482 719 346"},
            {"status": "lost"},
            {"unit_code": "1954"},
            {"unit_code": "01954\n"},
            {"unit_name": ""},
            {"hamlet": "x" * 121},
            {"revision": 0},
            {"issued_at": datetime(2025, 8, 2, 3, 4, 5)},  # noqa: DTZ001
            {"issued_at": datetime(1969, 1, 1, tzinfo=UTC)},
            {"issuer": "bkapp.example"},
            {"issuer": "https://bkapp.example/ a"},
            {"plus_code": "7PH74RWM"},
            {"unit_name": "\ud800"},
        ],
    )
    def test_impossible_statements_are_not_signed(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(ValueError):  # noqa: PT011  each names its own field
            SIGNER.sign(msgspec.structs.replace(STATEMENT, **wrong))

    def test_the_longest_statement_fits(self) -> None:
        longest = msgspec.structs.replace(
            STATEMENT, unit_name="ữ" * 120, hamlet="ữ" * 120, plus_code="7PH74RWM+RRX", issuer="https://" + "a" * 200
        )

        assert len(SIGNER.sign(longest)) < LONGEST_TOKEN

    def test_what_could_not_be_verified_for_its_length_is_not_signed(self) -> None:
        # Control characters take six bytes each in JSON.
        escaped = msgspec.structs.replace(STATEMENT, unit_name="\x01" * 120, hamlet="\x01" * 120)

        with pytest.raises(ValueError, match="longer than 2048"):
            SIGNER.sign(escaped)


class TestForgery:
    @given(st.integers(0, len(TOKEN) - 1), st.sampled_from([*string.ascii_letters, *string.digits, *"-_.=+/ \n\0é"]))
    @example(len(TOKEN) - 1, "_")
    def test_any_one_changed_character_is_refused(self, place: int, symbol: str) -> None:
        changed = TOKEN[:place] + symbol + TOKEN[place + 1 :]

        if changed != TOKEN:
            refusal(changed)

    def test_the_unused_bits_of_the_last_characters_are_not_a_second_spelling(self) -> None:
        # 64 bytes of signature leave four bits of the last character unused.
        last = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
        accepted = []
        for symbol in last:
            try:
                accepted.append(verify(TOKEN[:-1] + symbol, SIGNER))
            except BadCertificate:
                continue

        assert len(accepted) == 1

    @given(st.text() | st.text(string.ascii_letters + string.digits + "-_.", max_size=400))
    def test_arbitrary_text_is_refused_and_never_crashes(self, text: str) -> None:
        refusal(text)

    @given(st.binary(max_size=80), st.binary(max_size=80))
    def test_arbitrary_parts_are_refused_even_when_signed(self, first: bytes, second: bytes) -> None:
        refusal(forged(first, second))
        refusal(forged(payload=second))

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
        )
    )
    def test_arbitrary_json_is_refused_even_when_signed(self, value: object) -> None:
        refusal(forged(payload=json.dumps(value).encode()))
        refusal(forged(header=json.dumps(value).encode()))

    @pytest.mark.parametrize(
        "algorithm", ["none", "NONE", "", "HS256", "RS256", "ES256", "Ed25519", "eddsa", None, ["EdDSA"]]
    )
    def test_only_one_algorithm_is_accepted(self, algorithm: object) -> None:
        assert refusal(forged(header(alg=algorithm))) is Reason.WRONG_ALGORITHM

    def test_the_public_key_cannot_be_used_as_a_shared_secret(self) -> None:
        public = SIGNER.public["2025a"].public_bytes_raw()

        token = jwt.api_jws.encode(
            msgspec.json.encode(claims()), public, algorithm="HS256", headers={"kid": "2025a", "typ": TYPE}
        )

        assert refusal(token) is Reason.WRONG_ALGORITHM

    def test_an_unsigned_certificate_is_refused(self) -> None:
        assert refusal(TOKEN.rsplit(".", 1)[0] + ".") is Reason.MALFORMED
        assert refusal(TOKEN.rsplit(".", 1)[0] + ".AA") is Reason.WRONG_SIGNATURE

    @pytest.mark.parametrize("name", ["jwk", "jku", "x5u", "x5c", "x5t", "x5t#S256", "crit", "b64", "zip", "cty"])
    def test_a_certificate_may_not_bring_its_own_key_or_rules(self, name: str) -> None:
        assert refusal(forged(header(**{name: SIGNER.jwks()["keys"][0]}))) is Reason.FORBIDDEN_HEADER

    @pytest.mark.parametrize("kind", ["JWT", "bk-address", "BK-ADDRESS+JWT", None, 1])
    def test_a_token_made_for_another_purpose_is_refused(self, kind: object) -> None:
        assert refusal(forged(header(typ=kind))) is Reason.WRONG_TYPE

    @pytest.mark.parametrize("kid", ["2024a", "", None, 7, ["2025a"], {"kid": "2025a"}])
    def test_an_unknown_key_is_refused(self, kid: object) -> None:
        assert refusal(forged(header(kid=kid))) is Reason.UNKNOWN_KEY

    def test_another_key_with_the_same_id_is_refused(self) -> None:
        assert refusal(forged(signer=Signer([("2025a", bytes(32))]))) is Reason.WRONG_SIGNATURE

    @pytest.mark.parametrize(
        "token",
        [
            TOKEN + "=",
            TOKEN.replace(".", "=.", 1),
            TOKEN + ".",
            "." + TOKEN,
            TOKEN + "\n",
            " " + TOKEN,
            TOKEN.replace("-", "+").replace("_", "/") + "+",
            TOKEN.replace(".", "..", 1),
            TOKEN + "." + TOKEN,
            "",
            "..",
            "a.b.c",
        ],
    )
    def test_padding_and_other_alphabets_are_refused(self, token: str) -> None:
        assert refusal(token) is Reason.MALFORMED

    def test_oversize_is_refused_before_anything_is_decoded(self) -> None:
        assert refusal("A" * 3_000_000) is Reason.TOO_LONG
        assert refusal(forged(payload=claims(un="x" * LONGEST_TOKEN))) is Reason.TOO_LONG

    @pytest.mark.parametrize(
        "raw",
        [
            b'{"alg":"EdDSA","kid":"2025a","kid":"2025a","typ":"bk-address+jwt"}',
            b'{"alg":"none","alg":"EdDSA","kid":"2025a","typ":"bk-address+jwt"}',
            b'{"kid":"2025a","alg":"EdDSA","typ":"bk-address+jwt"}',
            b'{"alg": "EdDSA","kid":"2025a","typ":"bk-address+jwt"}',
            b'{"alg":"\\u0045dDSA","kid":"2025a","typ":"bk-address+jwt"}',
        ],
    )
    def test_a_second_spelling_of_the_header_is_refused(self, raw: bytes) -> None:
        assert refusal(forged(raw)) is Reason.MALFORMED

    def test_a_second_spelling_of_the_claims_is_refused(self) -> None:
        raw = msgspec.json.encode(claims())

        assert verify(forged(payload=raw), SIGNER) == STATEMENT
        for other in (
            raw.replace(b'"rev":3', b'"rev":3,"rev":3'),
            raw.replace(b'"rev":3', b'"rev":2,"rev":3'),
            raw.replace(b'"rev":3', b'"rev": 3'),
            raw.replace(b'"rev":3', b'"rev":3.0'),
            raw.replace(b'"rev":3', b'"rev":3,"olc":null'),
            raw.replace("ã".encode(), b"\\u00e3"),
            raw.replace(b"2025-07-01", b"20250701"),
            msgspec.json.encode(dict(reversed(claims().items()))),
            raw + b" ",
            b"\xef\xbb\xbf" + raw,
        ):
            assert other != raw
            assert refusal(forged(payload=other)) is Reason.WRONG_CLAIMS

    @pytest.mark.parametrize(
        "changes",
        [
            {"sub": "BK482719347"},
            {"sub": "482719346"},
            {"sub": "BK 482719346"},
            {"sub": "BK482719346\n"},
            {"sub": 482719346},
            {"sub": ...},
            {"iat": "1754103845"},
            {"iat": 1.5},
            {"iat": True},
            {"iat": -1},
            {"iat": 10**18},
            {"st": "alive"},
            {"u": 1954},
            {"u": "0١954"},
            {"un": None},
            {"un": ["Xã"]},
            {"uf": "2025-13-01"},
            {"uf": "2025-07-01T00:00:00"},
            {"rev": 0},
            {"rev": 2**60},
            {"h": 5},
            {"olc": "7PH74RWM"},
            {"olc": "7ph74rwm+rr"},
            {"iss": "javascript:alert(1)"},
            {"iss": "https://a b"},
            {"exp": 1},
            {"name": "Nguyễn Văn A"},
        ],
    )
    def test_wrong_claims_are_refused_even_when_signed(self, changes: dict[str, Any]) -> None:
        assert refusal(forged(payload=claims(**changes))) is Reason.WRONG_CLAIMS

    @pytest.mark.parametrize("raw", [b"[" * 900, b'{"a":' * 250, b"\xff\xfe", b"null"])
    def test_nested_and_broken_json_is_refused(self, raw: bytes) -> None:
        assert refusal(forged(payload=raw)) is Reason.WRONG_CLAIMS
        assert refusal(forged(header=raw)) is Reason.MALFORMED


class TestKeys:
    def test_the_first_key_signs_and_all_verify(self) -> None:
        rotated = Signer([("2031a", bytes(reversed(SEED))), ("2025a", SEED)])

        assert verify(TOKEN, rotated) == verify(TOKEN, rotated.jwks()) == STATEMENT
        assert verify(rotated.sign(STATEMENT), rotated) == STATEMENT
        assert refusal(rotated.sign(STATEMENT), SIGNER) is Reason.UNKNOWN_KEY

    def test_the_key_set_is_that_of_rfc_8037(self) -> None:
        # RFC 8037 appendix A.1 and A.2.
        seed = base64.urlsafe_b64decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")

        assert Signer([("rfc", seed)]).jwks() == {
            "keys": [
                {
                    "kty": "OKP",
                    "crv": "Ed25519",
                    "kid": "rfc",
                    "use": "sig",
                    "alg": "EdDSA",
                    "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
                }
            ]
        }

    def test_the_setting_is_read(self) -> None:
        text = f"2031a:{b64(bytes(reversed(SEED)))}, 2025a:{b64(SEED)}="

        signer = Signer.parse(text)

        assert signer.kid == "2031a"
        assert list(signer.public) == ["2031a", "2025a"]
        assert verify(TOKEN, signer) == STATEMENT

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("", "key 1 of 1 is not written as kid:seed"),
            ("@", "key 1 of 1 is not written as kid:seed"),
            ("a:@,", "key 2 of 2 is not written as kid:seed"),
            ("a:@,@", "key 2 of 2 is not written as kid:seed"),
            ("@:a", "seed of signing key 1 of 1 must be 32 bytes in base64url, 43 characters; it has 1"),
            (":@", "id of signing key 1"),
            ("a b:@", "id of signing key 1"),
            ("@:@", "id of signing key 1"),
            ("a:@@", "it has 86"),
            ("a:@,a:!", "seed of signing key 2"),
            ("a:@,b:@", "'a' and 'b' have the same seed"),
            ("a:@,a:#", "Two signing keys have the id 'a'"),
        ],
    )
    def test_a_wrong_setting_is_explained_without_its_secret(self, text: str, says: str) -> None:
        secret, other = b64(SEED), b64(bytes(reversed(SEED)))

        with pytest.raises(ValueError, match="igning key") as caught:
            Signer.parse(text.replace("@", secret).replace("#", other))

        assert says in str(caught.value)
        assert secret[:8] not in str(caught.value)
        assert caught.value.__cause__ is None

    def test_a_signer_needs_a_key_of_the_right_size(self) -> None:
        with pytest.raises(ValueError, match="no signing key"):
            Signer([])
        with pytest.raises(ValueError, match="32 bytes, not 31"):
            Signer([("a", SEED[:31])])

    def test_a_signer_does_not_print_its_seed(self) -> None:
        assert b64(SEED)[:8] not in repr(SIGNER)
        assert SEED.hex()[:8] not in repr(SIGNER)

    @pytest.mark.parametrize(
        "change",
        [{"kty": "RSA"}, {"crv": "Ed448"}, {"use": "enc"}, {"alg": "HS256"}, {"kid": 1}, {"x": "AA"}, {"x": "=" * 43}],
    )
    def test_keys_of_another_kind_in_a_set_are_passed_over(self, change: dict[str, Any]) -> None:
        key = SIGNER.jwks()["keys"][0]

        assert refusal(TOKEN, {"keys": [key | change]}) is Reason.UNKNOWN_KEY
        assert verify(TOKEN, {"keys": [7, None, key | change, key]}) == STATEMENT

    @pytest.mark.parametrize("jwks", [{}, {"keys": None}, {"keys": {}}, {"keys": []}])
    def test_an_empty_set_verifies_nothing(self, jwks: dict[str, Any]) -> None:
        assert refusal(TOKEN, jwks) is Reason.UNKNOWN_KEY


class TestVerdict:
    def test_a_fresh_certificate_is_current(self) -> None:
        verdict = judge(TOKEN, SIGNER, now=STATEMENT)

        assert (verdict.outcome, verdict.statement, verdict.changed, verdict.reason) == ("current", STATEMENT, (), None)

    @pytest.mark.parametrize(
        ("now", "changed"),
        [
            ({"status": "retired", "revision": 4}, ("status",)),
            ({"unit_code": "01969", "unit_name": "Xã Phủ Thông", "revision": 9}, ("unit_code", "unit_name")),
            ({"hamlet": None, "revision": 4}, ("hamlet",)),
            ({"revision": 4}, ()),
            ({"revision": 2}, ()),
            ({"status": "retired"}, ("status",)),
        ],
    )
    def test_a_certificate_is_superseded_when_the_register_moved_on(
        self, now: dict[str, Any], changed: tuple[str, ...]
    ) -> None:
        verdict = judge(TOKEN, SIGNER, now=msgspec.structs.replace(STATEMENT, **now))

        assert (verdict.outcome, verdict.changed) == ("superseded", changed)
        assert verdict.statement == STATEMENT

    def test_a_later_signature_or_another_host_changes_nothing(self) -> None:
        later = msgspec.structs.replace(
            STATEMENT, issued_at=datetime(2040, 1, 1, tzinfo=UTC), issuer="https://new.example", plus_code="7PH74RWM+RR"
        )

        assert judge(TOKEN, SIGNER, now=later).outcome == "current"

    def test_a_moved_point_supersedes_a_certificate_that_gave_it(self) -> None:
        then = msgspec.structs.replace(STATEMENT, plus_code="7PH74RWM+RR")
        now = msgspec.structs.replace(STATEMENT, plus_code="7PH74RWM+RX", revision=4)

        assert judge(SIGNER.sign(then), SIGNER, now=now).changed == ("plus_code",)

    def test_a_certificate_copied_from_another_address_is_not_genuine(self) -> None:
        verdict = judge(TOKEN, SIGNER, now=msgspec.structs.replace(STATEMENT, code="100000012"))

        assert (verdict.outcome, verdict.statement, verdict.reason) == ("not_genuine", None, Reason.OTHER_ADDRESS)

    def test_a_forged_certificate_says_why(self) -> None:
        verdict = judge(TOKEN[:-2] + "AA", SIGNER, now=STATEMENT)

        assert (verdict.outcome, verdict.reason) == ("not_genuine", Reason.WRONG_SIGNATURE)


def test_the_qr_text_is_the_public_page_with_the_certificate() -> None:
    assert link("https://bkapp.example", "482719346", TOKEN) == f"https://bkapp.example/c/482719346?v={TOKEN}"


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)
