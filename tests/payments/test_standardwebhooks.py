"""Signatures of Standard Webhooks are the ones of its public examples, and no hostile message is believed."""

import base64
import hashlib
import hmac
import json
import string
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
import standardwebhooks as reference
from hypothesis import given
from hypothesis import strategies as st

from bkapp.payments.standardwebhooks import (
    MOST_SIGNATURES,
    TOLERANCE,
    BadKey,
    Reason,
    WebhookRefused,
    new_private_key,
    new_secret,
    public_half,
    sign,
    verify,
)

SECRET, OTHER_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
# Ours, for others to test with: the private key is the bytes 0 to 31.
PRIVATE = "whsk_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
PUBLIC = "whpk_A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg="
# Of the tests of the server of Svix, who wrote the scheme down.
SVIX_PRIVATE = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
SVIX_PUBLIC = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="

KNOWN = {
    "KAT1": (
        SECRET,
        SECRET,
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    ),
    "KAT2": (
        OTHER_SECRET,
        OTHER_SECRET,
        "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
        1649367553,
        b'{"email":"test@example.com","username":"test_user"}',
        "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
    ),
    "Svix": (
        SVIX_PRIVATE,
        SVIX_PUBLIC,
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
        "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==",
    ),
    "ours": (
        PRIVATE,
        PUBLIC,
        "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W",
        1674087231,
        '{"type":"bill.paid","data":{"title":"Lệ phí"}}'.encode(),
        "v1a,5PF6KSNqMic3xUQwNvd3AdLKhwZRQKodWNHFnELGxsJuhEAw3rOY/eXCJBC5Lw1JJsWp6B2hucvxCxLdBzGRDw==",
    ),
}
NOW = datetime(2026, 3, 15, 3, 15, 30, tzinfo=UTC)
STAMP = int(NOW.timestamp())
BODY = '{"type":"bill.paid","title":"Lệ phí"}'.encode()


def message(
    signature: str | None = None, *, message_id: str = "msg_1", timestamp: str = str(STAMP), body: bytes = BODY
) -> dict[str, str]:
    """The headers of a message, signed by hand with SECRET unless a signature is given."""
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": by_hand(message_id, timestamp, body) if signature is None else signature,
    }


def by_hand(message_id: str, timestamp: str, body: bytes) -> str:
    """A v1 signature of anything, also of what ``sign`` refuses to sign."""
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    signed = f"{message_id}.{timestamp}.".encode("utf-8", "surrogatepass") + body
    return f"v1,{base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()}"


def refused(headers: dict[str, str], body: bytes = BODY, *, keys: list[str] | None = None) -> Reason:
    with pytest.raises(WebhookRefused) as caught:
        verify(headers, body, [SECRET] if keys is None else keys, now=NOW)
    return caught.value.reason


@pytest.mark.parametrize("name", KNOWN)
def test_signatures_are_those_of_the_public_examples(name: str) -> None:
    signing, verifying, message_id, timestamp, body, signature = KNOWN[name]

    headers = message(signature, message_id=message_id, timestamp=str(timestamp))

    assert sign(message_id, timestamp, body, [signing]) == signature
    assert verify(headers, body, [verifying], now=datetime.fromtimestamp(timestamp, UTC)) == (message_id, timestamp)


def test_the_public_half_of_a_private_key_is_found_in_either_of_its_forms() -> None:
    seed = base64.b64encode(base64.b64decode(SVIX_PRIVATE.removeprefix("whsk_"))[:32]).decode()

    assert public_half(PRIVATE) == PUBLIC
    assert public_half(SVIX_PRIVATE) == public_half(f"whsk_{seed}") == SVIX_PUBLIC


GOOD = by_hand("msg_1", str(STAMP), BODY)
HOSTILE: dict[str, tuple[dict[str, str], bytes, Reason | None]] = {
    # What the reference library for Python answers with another error than its own.
    "a signature without a comma": (message(GOOD.replace(",", "")), BODY, Reason.SIGNATURE),
    "a signature with two commas": (message(f"{GOOD},x"), BODY, Reason.SIGNATURE),
    "a signature that is no base64": (message("v1,=!"), BODY, Reason.SIGNATURE),
    "a body that is no UTF-8": (message(body=b"\xff\xfe"), b"\xff\xfe", None),
    "a body that is no JSON": (message(body=b"hello"), b"hello", None),
    # What it accepts.
    "a timestamp with a fraction": (message(timestamp=f"{STAMP}.9"), BODY, Reason.MALFORMED),
    "a timestamp with an exponent": (message(timestamp="1.773544530e9"), BODY, Reason.MALFORMED),
    "a timestamp with spaces and lines": (message(timestamp=f" {STAMP:_} "), BODY, Reason.MALFORMED),
    # What it refuses, and what it is right to accept.
    "a timestamp that is not a number": (message(timestamp="nan"), BODY, Reason.MALFORMED),
    "a timestamp without an end": (message(timestamp="inf"), BODY, Reason.MALFORMED),
    "v1a first, then a good v1": (message(f"v1a,{'A' * 86}== {GOOD}"), BODY, None),
    "a space at the end": (message(f"{GOOD} "), BODY, None),
    "the same id again": (message(), BODY, None),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_the_13_hostile_messages_are_refused_cleanly_or_rightly_believed(name: str) -> None:
    headers, body, reason = HOSTILE[name]

    if reason is None:
        # That an id is new is for the inbox to know; what the body says, for whoever reads it.
        assert verify(headers, body, [SECRET], now=NOW) == verify(headers, body, [SECRET], now=NOW) == ("msg_1", STAMP)
    else:
        assert refused(headers, body) is reason


@pytest.mark.parametrize("lost", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a_message_without_one_of_its_headers_is_incomplete(lost: str) -> None:
    assert refused({name: value for name, value in message().items() if name != lost}) is Reason.INCOMPLETE


@pytest.mark.parametrize(
    "message_id", ["", "a.b", "msg 1", "msg_1\n", "tin_nhắn", "x" * 129, "\ud800", "msg\x001", "msg_1."]
)
def test_an_id_that_could_be_read_two_ways_is_refused_though_signed(message_id: str) -> None:
    assert refused(message(message_id=message_id)) is Reason.MALFORMED
    with pytest.raises(ValueError, match="id or the time"):
        sign(message_id, STAMP, BODY, [SECRET])


@pytest.mark.parametrize(
    "timestamp",
    ["", "-1", "+1773544530", "01773544530", "1773544530\n", "١٧٧٣٥٤٤٥٣٠", "1_773_544_530", "0x69b6", "9" * 13],
)
def test_a_timestamp_in_another_spelling_is_refused_though_signed(timestamp: str) -> None:
    assert refused(message(timestamp=timestamp)) is Reason.MALFORMED


def test_a_time_before_1970_is_not_signed() -> None:
    with pytest.raises(ValueError, match="id or the time"):
        sign("msg_1", -1, BODY, [SECRET])


@pytest.mark.parametrize(
    ("seconds", "believed"), [(-301, False), (-300, True), (0, True), (300, True), (301, False), (-(10**9), False)]
)
def test_a_message_is_believed_for_five_minutes_either_way(seconds: int, believed: bool) -> None:  # noqa: FBT001
    headers = message(timestamp=str(STAMP + seconds))

    if believed:
        assert verify(headers, BODY, [SECRET], now=NOW) == ("msg_1", STAMP + seconds)
    else:
        assert refused(headers) is Reason.TIME


def test_the_tolerance_can_be_another() -> None:
    headers = message(timestamp=str(STAMP - 301))

    assert verify(headers, BODY, [SECRET], now=NOW, tolerance=TOLERANCE + timedelta(seconds=1))[0] == "msg_1"


def test_an_old_message_with_a_bad_signature_is_refused_for_the_signature() -> None:
    assert refused(message("v1,AAAA", timestamp="0")) is Reason.SIGNATURE


@pytest.mark.parametrize(
    "keys",
    [[SECRET], [OTHER_SECRET, SECRET], [SECRET, OTHER_SECRET], [PUBLIC], [SVIX_PUBLIC, PUBLIC], [SECRET, PUBLIC]],
)
def test_one_key_in_force_is_enough_while_keys_change(keys: list[str]) -> None:
    signature = sign("msg_1", STAMP, BODY, [SECRET, PRIVATE])

    assert [one.partition(",")[0] for one in signature.split(" ")] == ["v1", "v1a"]
    assert verify(message(signature), BODY, keys, now=NOW) == ("msg_1", STAMP)


@pytest.mark.parametrize("keys", [[], [OTHER_SECRET], [SVIX_PUBLIC], [OTHER_SECRET, SVIX_PUBLIC]])
def test_without_a_key_that_fits_nothing_is_believed(keys: list[str]) -> None:
    assert refused(message(sign("msg_1", STAMP, BODY, [SECRET, PRIVATE])), keys=keys) is Reason.SIGNATURE


def test_a_signature_counts_in_its_own_scheme_only() -> None:
    mac, edwards = sign("msg_1", STAMP, BODY, [SECRET, PRIVATE]).split(" ")

    for label in ("v1a,", "v2,", "V1,", ",", "", "v1 "):
        assert refused(message(mac.replace("v1,", label))) is Reason.SIGNATURE
    for label in ("v1,", "v2,", "V1A,", ",", ""):
        assert refused(message(edwards.replace("v1a,", label)), keys=[PUBLIC]) is Reason.SIGNATURE


SPELLINGS: dict[str, Callable[[str], str]] = {
    "without padding": lambda text: text.rstrip("="),
    "with more padding": "{}=".format,
    "with a line's end": lambda text: text[:8] + "\n" + text[8:],
    "as base64url": lambda text: text.replace("+", "-").replace("/", "_"),
    # The last character before the padding holds bits that mean nothing.
    "with loose bits": lambda text: text.rstrip("=")[:-1] + chr(ord(text.rstrip("=")[-1]) + 1) + "=" * text.count("="),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("scheme", ["v1", "v1a"])
def test_a_signature_has_one_spelling(spelling: str, scheme: str) -> None:
    sender, receiver = {"v1": (SECRET, SECRET), "v1a": (PRIVATE, PUBLIC)}[scheme]
    body = b"4"  # both signatures of this body have signs that base64url spells in another way
    right = sign("msg_1", STAMP, body, [sender]).removeprefix(f"{scheme},")

    changed = SPELLINGS[spelling](right)

    assert changed != right
    assert refused(message(f"{scheme},{changed}"), body, keys=[receiver]) is Reason.SIGNATURE


def test_only_so_many_signatures_are_tried() -> None:
    padding = " ".join(["v1,AAAA"] * (MOST_SIGNATURES - 1))

    assert verify(message(f"{padding} {GOOD}"), BODY, [SECRET], now=NOW) == ("msg_1", STAMP)
    assert refused(message(f"v1,AAAA {padding} {GOOD}")) is Reason.MALFORMED


@pytest.mark.parametrize(
    "key",
    [
        "",
        SECRET.removeprefix("whsec_"),
        "whsec_",
        "whsec_" + base64.b64encode(bytes(23)).decode(),
        base64.b64encode(bytes(32)).decode(),
        "whsec_" + base64.b64encode(bytes(65)).decode(),
        SECRET + "=",
        "whsec_Lệ phí",
        "WHSEC_" + SECRET.removeprefix("whsec_"),
        "whpk_AAAA",
        "whsk_AAAA",
        "whsk_" + base64.b64encode(bytes(64)).decode(),  # halves that are not of one key
    ],
)
def test_a_key_that_is_none_is_our_fault_not_the_senders(key: str) -> None:
    with pytest.raises(BadKey):
        sign("msg_1", STAMP, BODY, [key])
    with pytest.raises(BadKey):
        verify(message(), BODY, [SECRET, key], now=NOW)


def test_a_private_key_does_not_verify_and_a_public_one_does_not_sign() -> None:
    with pytest.raises(BadKey):
        verify(message(), BODY, [PRIVATE], now=NOW)
    with pytest.raises(BadKey):
        sign("msg_1", STAMP, BODY, [PUBLIC])
    with pytest.raises(ValueError, match="no key"):
        sign("msg_1", STAMP, BODY, [])


def test_fresh_keys_sign_and_differ() -> None:
    secret, private = new_secret(), new_private_key()

    signature = sign("msg_1", STAMP, BODY, [secret, private])

    assert verify(message(signature), BODY, [secret], now=NOW) == ("msg_1", STAMP)
    assert verify(message(signature), BODY, [public_half(private)], now=NOW) == ("msg_1", STAMP)
    assert secret != new_secret()
    assert private != new_private_key()


ids = st.text(string.ascii_letters + string.digits + "_-", min_size=1, max_size=40)


@given(ids, st.integers(0, 10**12 - 1), st.binary(max_size=200), st.sampled_from([(SECRET, SECRET), (PRIVATE, PUBLIC)]))
def test_whatever_is_signed_is_believed(message_id: str, timestamp: int, body: bytes, keys: tuple[str, str]) -> None:
    headers = message(sign(message_id, timestamp, body, [keys[0]]), message_id=message_id, timestamp=str(timestamp))

    found = verify(headers, body, [keys[1]], now=NOW, tolerance=timedelta(days=365 * 40_000))

    assert found == (message_id, timestamp)


@given(st.sampled_from([(SECRET, SECRET), (PRIVATE, PUBLIC)]), st.data())
def test_one_byte_changed_anywhere_is_caught(keys: tuple[str, str], data: st.DataObject) -> None:
    headers = message(sign("msg_1", STAMP, BODY, [keys[0]]))
    part = data.draw(st.sampled_from([*headers, "body"]))
    whole = BODY if part == "body" else headers[part].encode()
    at, byte = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 255))
    changed = whole[:at] + bytes([byte]) + whole[at + 1 :]

    if changed == whole:
        return
    if part == "body":
        assert refused(headers, changed, keys=[keys[1]]) is Reason.SIGNATURE
    else:
        refused(headers | {part: changed.decode("latin-1")}, keys=[keys[1]])


anything = st.text(st.characters(exclude_categories=()))


@given(
    st.dictionaries(
        st.sampled_from(["webhook-id", "webhook-timestamp", "webhook-signature", "x"]),
        st.one_of(anything, st.just(str(STAMP)), st.just("msg_1"), st.just(GOOD), anything.map("v1a,{}".format)),
    ),
    st.binary(),
)
def test_no_message_raises_anything_else(headers: dict[str, str], body: bytes) -> None:
    try:
        verify(headers, body, [SECRET, PUBLIC], now=NOW)
    except WebhookRefused:
        return
    assert headers == message()
    assert body == BODY


@given(ids, st.text(), st.sampled_from([SECRET, OTHER_SECRET]))
def test_the_reference_library_believes_us_and_we_believe_it(message_id: str, text: str, key: str) -> None:
    body = json.dumps({"text": text}, ensure_ascii=False).encode("utf-8")
    now = datetime.now(UTC)  # theirs has no other clock
    theirs = reference.Webhook(key)

    ours = sign(message_id, int(now.timestamp()), body, [PRIVATE, key])
    headers = message(ours, message_id=message_id, timestamp=str(int(now.timestamp())))

    assert theirs.verify(body, headers) == {"text": text}
    assert theirs.sign(message_id, now, body.decode()) == ours.split(" ")[1]
    signed = headers | {"webhook-signature": theirs.sign(message_id, now, body.decode())}
    assert verify(signed, body, [OTHER_SECRET, SECRET], now=now)[0] == message_id
