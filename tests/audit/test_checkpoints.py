"""Checkpoints: one text each, and no other text is one."""

import base64
import json
from datetime import UTC, datetime
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bkapp.address import certificates
from bkapp.audit.checkpoints import LONGEST_TOKEN, BadCheckpoint, Checkpoint, Keys, Reason, read
from bkapp.config import DEMO_SIGNING_KEYS

SEED, OTHER_SEED = bytes(range(32)), bytes(range(1, 33))
KEYS = Keys([("k2", SEED), ("k1", OTHER_SEED)])
MADE = Checkpoint(
    issuer="https://bkapp.example", seq=7, hash=bytes(range(32)), made_at=datetime(2026, 3, 1, 8, 7, tzinfo=UTC)
)
TOKEN = KEYS.sign(MADE)


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def token_of(header: Any, claims: Any, *, keys: Keys = KEYS) -> str:
    """A text signed by us, whatever it says."""
    parts = [
        part if isinstance(part, bytes) else json.dumps(part, separators=(",", ":")).encode()
        for part in (header, claims)
    ]
    signed = ".".join(map(b64, parts))
    return f"{signed}.{b64(keys._key.sign(signed.encode()))}"


HEADER = {"alg": "EdDSA", "kid": "k2", "typ": "bk-audit+jwt"}
CLAIMS = {"iss": MADE.issuer, "iat": int(MADE.made_at.timestamp()), "seq": 7, "hash": MADE.hash.hex()}


def test_what_is_signed_is_read() -> None:
    assert read(TOKEN, KEYS.public) == MADE
    assert token_of(HEADER, CLAIMS) == TOKEN
    assert Keys.parse(DEMO_SIGNING_KEYS).kid == "demo"


def test_an_older_key_still_verifies() -> None:
    assert read(Keys([("k1", OTHER_SEED)]).sign(MADE), KEYS.public) == MADE


def test_others_verify_it_with_the_published_keys() -> None:
    published = certificates.Signer([("k2", SEED), ("k1", OTHER_SEED)]).jwks()["keys"]
    key = jwt.PyJWK(next(key for key in published if key["kid"] == jwt.get_unverified_header(TOKEN)["kid"]))
    assert jwt.decode(TOKEN, key, algorithms=["EdDSA"])["hash"] == MADE.hash.hex()


SIGNED, _, SIGNATURE = TOKEN.rpartition(".")
WRONG = {
    "empty": "",
    "dots": "..",
    "two parts": SIGNED,
    "four parts": f"{TOKEN}.{SIGNATURE}",
    "not ASCII": TOKEN.replace("e", "é", 1),
    "padded": f"{TOKEN}=",
    "other last bits": TOKEN[:-1] + chr(ord(TOKEN[-1]) + 1),
    "line break": f"{TOKEN}\n",
    "too long": f"{SIGNED}.{'A' * LONGEST_TOKEN}",
    "no signature": f"{SIGNED}.",
    "none": token_of({**HEADER, "alg": "none"}, CLAIMS),
    "HS256": token_of({**HEADER, "alg": "HS256"}, CLAIMS),
    "type of a certificate": token_of({**HEADER, "typ": certificates.TYPE}, CLAIMS),
    "no type": token_of({"alg": "EdDSA", "kid": "k2"}, CLAIMS),
    "brings its key": token_of({**HEADER, "jwk": {}}, CLAIMS),
    "crit": token_of({**HEADER, "crit": ["x"]}, CLAIMS),
    "spaces": token_of(json.dumps(HEADER).encode(), CLAIMS),
    "claim twice": token_of(HEADER, json.dumps(CLAIMS, separators=(",", ":")).encode().replace(b"{", b'{"seq":7,', 1)),
    "other order": token_of(HEADER, dict(reversed(CLAIMS.items()))),
    "more claims": token_of(HEADER, {**CLAIMS, "sub": "x"}),
    "seq 0": token_of(HEADER, {**CLAIMS, "seq": 0}),
    "seq as text": token_of(HEADER, {**CLAIMS, "seq": "7"}),
    "short hash": token_of(HEADER, {**CLAIMS, "hash": "00"}),
    "capitals": token_of(HEADER, {**CLAIMS, "hash": MADE.hash.hex().upper()}),
    "no JSON": token_of(b"\xff", b"{"),
    "deep": token_of(b"[" * 300, CLAIMS),
}


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG)
def test_any_other_text_is_none(text: str) -> None:
    with pytest.raises(BadCheckpoint) as caught:
        read(text, KEYS.public)
    assert caught.value.reason is Reason.MALFORMED


def test_a_key_that_is_not_ours_and_a_signature_that_does_not_fit_are_told() -> None:
    with pytest.raises(BadCheckpoint) as unknown:
        read(Keys([("k3", SEED)]).sign(MADE), KEYS.public)
    with pytest.raises(BadCheckpoint) as forged:
        read(Keys([("k2", OTHER_SEED)]).sign(MADE), KEYS.public)
    assert (unknown.value.reason, forged.value.reason) == (Reason.UNKNOWN_KEY, Reason.WRONG_SIGNATURE)


@given(st.integers(0, len(TOKEN) - 1), st.characters())
def test_every_sign_of_it_counts(place: int, sign: str) -> None:
    changed = TOKEN[:place] + sign + TOKEN[place + 1 :]
    if changed != TOKEN:
        with pytest.raises(BadCheckpoint):
            read(changed, KEYS.public)
