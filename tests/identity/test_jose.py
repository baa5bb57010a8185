"""No hostile token passes the gate, each for its own reason, and good ones of every algorithm do.

The vectors are ours, in the manner of C2SP Wycheproof: every class of attack that the module's docstring names has at
least one, and each differs from a good token in one thing.
"""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from bkapp.config import SIGNING_ALGORITHMS
from bkapp.identity.jose import (
    DEEPEST,
    LONGEST_TOKEN,
    MOST_KEYS,
    BadToken,
    Jwks,
    Reason,
    examine,
    half_hash,
    read_object,
    verify,
)

RSA = rsa.generate_private_key(65537, 2048)
WEAK_RSA = rsa.generate_private_key(65537, 1024)  # noqa: S505  (this one must be refused)
OTHER_RSA = rsa.generate_private_key(65537, 2048)
P256, OTHER_P256 = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
P384, P521 = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP521R1())
SECP256K1 = ec.generate_private_key(ec.SECP256K1())
ED25519 = ed25519.Ed25519PrivateKey.generate()
ED448 = ed448.Ed448PrivateKey.generate()
N256 = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
CLAIMS = {"iss": "https://eid.example", "sub": "đăng-nhập"}
ID_TOKEN = frozenset({None, "JWT"})
HASHES: dict[str, hashes.HashAlgorithm] = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def number(value: int, length: int | None = None) -> str:
    return b64(value.to_bytes(length or (value.bit_length() + 7) // 8))


def jwk(key: Any, kid: str | None, **changes: Any) -> dict[str, Any]:
    """The public half of a key as it is published, with changes; ``...`` leaves a member out."""
    public = key.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        numbers = public.public_numbers()
        found: dict[str, Any] = {"kty": "RSA", "n": number(numbers.n), "e": number(numbers.e)}
    elif isinstance(public, ec.EllipticCurvePublicKey):
        point = public.public_numbers()
        size = (public.key_size + 7) // 8
        names = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521", "secp256k1": "secp256k1"}
        found = {"kty": "EC", "crv": names[public.curve.name], "x": number(point.x, size), "y": number(point.y, size)}
    else:
        curve = "Ed25519" if isinstance(public, ed25519.Ed25519PublicKey) else "Ed448"
        found = {"kty": "OKP", "crv": curve, "x": b64(public.public_bytes_raw())}
    found |= {"kid": kid, "use": "sig"} | changes
    return {name: value for name, value in found.items() if value is not ... and value is not None}


def raw_signature(der: bytes, size: int) -> bytes:
    r, s = decode_dss_signature(der)
    return r.to_bytes(size) + s.to_bytes(size)


def sign(algorithm: str, key: Any, text: bytes) -> bytes:
    if algorithm == "EdDSA":
        return bytes(key.sign(text))
    digest = HASHES[algorithm[2:]]
    if algorithm.startswith("ES"):
        return raw_signature(key.sign(text, ec.ECDSA(digest)), (key.key_size + 7) // 8)
    scheme = padding.PSS(padding.MGF1(digest), digest.digest_size) if algorithm[0] == "P" else padding.PKCS1v15()
    return bytes(key.sign(text, scheme, digest))


KEYS: dict[str, Any] = {"RS": RSA, "PS": RSA, "ES256": P256, "ES384": P384, "ES512": P521, "EdDSA": ED25519}


def key_of(algorithm: str) -> Any:
    return KEYS.get(algorithm) or KEYS[algorithm[:2]]


SET = Jwks(
    {
        "keys": [
            jwk(RSA, "rsa"),
            jwk(P256, "p256"),
            jwk(P384, "p384"),
            jwk(P521, "p521"),
            jwk(ED25519, "ed25519"),
            {"kty": "oct", "kid": "oct", "k": b64(b"a shared secret, which has no place in a published set")},
        ]
    }
)
KIDS = {"RS": "rsa", "PS": "rsa", "ES256": "p256", "ES384": "p384", "ES512": "p521", "EdDSA": "ed25519"}


def token(  # one knob for each thing that can be wrong
    algorithm: str = "ES256",
    *,
    key: Any = None,
    header: Any = None,
    payload: Any = CLAIMS,
    signature: bytes | Callable[[bytes], bytes] | None = None,
    **changes: Any,
) -> str:
    """A token; the header gets ``changes`` (``...`` leaves a member out), or is ``header`` as it is."""
    if header is None:
        kid = KIDS.get(algorithm) or KIDS.get(algorithm[:2], "p256")
        header = {"alg": algorithm, "kid": kid, "typ": "JWT"} | changes
        header = {name: value for name, value in header.items() if value is not ...}
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, payload)]
    signed = ".".join(map(b64, parts))
    if callable(signature):
        made = signature(signed.encode())
    elif signature is not None:
        made = signature
    else:
        made = sign(algorithm, key or key_of(algorithm), signed.encode())
    return f"{signed}.{b64(made)}"


def refused(
    text: str,
    keys: Jwks = SET,
    algorithms: tuple[str, ...] = SIGNING_ALGORITHMS,
    typ: frozenset[str | None] = ID_TOKEN,
) -> Reason | None:
    """Why a token does not pass; None if it does."""
    try:
        verify(text, keys=keys, algorithms=algorithms, typ=typ)
    except BadToken as error:
        return error.reason
    return None


def one(*entries: dict[str, Any]) -> Jwks:
    return Jwks({"keys": list(entries)})


@pytest.mark.parametrize("algorithm", SIGNING_ALGORITHMS)
class TestGoodTokensPass:
    def test_with_a_key_id(self, algorithm: str) -> None:
        verified = examine(token(algorithm), keys=SET, algorithms=SIGNING_ALGORITHMS, typ=ID_TOKEN)

        assert (verified.claims, verified.algorithm) == (CLAIMS, algorithm)

    def test_without_a_type_and_with_a_parameter_that_means_nothing_here(self, algorithm: str) -> None:
        assert refused(token(algorithm, typ=..., cty="JWT", vnd="x")) is None

    def test_without_a_key_id_where_one_key_suits(self, algorithm: str) -> None:
        assert refused(token(algorithm, kid=...), one(jwk(key_of(algorithm), None))) is None
        assert refused(token(algorithm, kid=...)) is None

    def test_not_without_a_key_id_where_two_keys_suit(self, algorithm: str) -> None:
        key = key_of(algorithm)
        keys = one(jwk(key, "a"), jwk(key, "b"))

        assert refused(token(algorithm, kid=...), keys) == Reason.AMBIGUOUS_KEY
        assert refused(token(algorithm, kid="b"), keys) is None

    def test_with_a_key_that_says_what_it_is_for(self, algorithm: str) -> None:
        entry = jwk(key_of(algorithm), "k", alg=algorithm, key_ops=["verify"])

        assert refused(token(algorithm, kid="k"), one(entry)) is None

    def test_not_where_the_issuer_does_not_sign_so(self, algorithm: str) -> None:
        others = tuple(name for name in SIGNING_ALGORITHMS if name != algorithm)

        assert refused(token(algorithm), algorithms=others) == Reason.WRONG_ALGORITHM

    def test_not_with_a_bit_of_the_signature_changed(self, algorithm: str) -> None:
        head, _, last = token(algorithm).rpartition(".")
        signature = bytearray(base64.urlsafe_b64decode(last + "=="))
        signature[len(signature) // 2] ^= 1

        assert refused(f"{head}.{b64(bytes(signature))}") == Reason.WRONG_SIGNATURE

    @pytest.mark.parametrize("made", [b"", b"\0", b"\0" * 64, b"\0" * 256, b"\xff" * 64, b"\xff" * 256])
    def test_not_with_a_made_up_signature(self, algorithm: str, made: bytes) -> None:
        assert refused(token(algorithm, signature=made)) == Reason.WRONG_SIGNATURE


PEM = RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
DER = RSA.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def mac(secret: bytes, digest: str = "sha256") -> Callable[[bytes], bytes]:
    return lambda signed: hmac.digest(secret, signed, digest)


GOOD = token()
HEAD, BODY, SIGNATURE = GOOD.split(".")
RS_HEAD, RS_BODY, RS_SIGNATURE = token("RS256").split(".")
ATTACKER = jwk(OTHER_P256, "p256")


def respelt(part: str) -> str:
    """The same bytes with other bits where base64 has bits to spare."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    assert len(part) % 4
    return part[:-1] + alphabet[alphabet.index(part[-1]) ^ 1]


ALGORITHMS: dict[str, str] = {
    "none with no signature": token(signature=b"", alg="none"),
    "none with the signature of another token": token(signature=b"x" * 64, alg="none"),
    "None": token(signature=b"", alg="None"),
    "NONE": token(signature=b"", alg="NONE"),
    "nOnE": token(signature=b"", alg="nOnE"),
    "none with a space": token(signature=b"", alg="none "),
    "no algorithm": token(alg=...),
    "null": token(alg=None),
    "an empty name": token(alg=""),
    "a list": token(alg=["ES256"]),
    "a number": token(alg=256),
    "an object": token(alg={"ES256": True}),
    "lower case": token(alg="es256"),
    "with a space": token(alg=" ES256"),
    "with a NUL": token(alg="ES256\0"),
    "misspelt": token(alg="ES521"),
    "HS256 with the public key in PEM": token(alg="HS256", kid="rsa", signature=mac(PEM)),
    "HS256 with the public key in PEM without its last newline": token(
        alg="HS256", kid="rsa", signature=mac(PEM.strip())
    ),
    "HS256 with the public key in DER": token(alg="HS256", kid="rsa", signature=mac(DER)),
    "HS256 with the modulus": token(alg="HS256", kid="rsa", signature=mac(jwk(RSA, "rsa")["n"].encode())),
    "HS256 with an empty secret": token(alg="HS256", signature=mac(b"")),
    "HS256 with the secret in the set": token(
        alg="HS256", kid="oct", signature=mac(b"a shared secret, which has no place in a published set")
    ),
    "HS384": token(alg="HS384", kid="rsa", signature=mac(PEM, "sha384")),
    "HS512": token(alg="HS512", kid="rsa", signature=mac(PEM, "sha512")),
    "ES256K": token(alg="ES256K", key=SECP256K1, signature=lambda text: sign("ES256", SECP256K1, text)),
    "encryption": token(alg="RSA-OAEP"),
    "direct encryption": token(alg="dir"),
}
HEADERS: dict[str, str] = {
    "a key of its own": token(key=OTHER_P256, jwk=jwk(OTHER_P256, "p256")),
    "a key of its own, which is ours": token(jwk=jwk(P256, "p256")),
    "a key of its own, null": token(jwk=None),
    "an address of keys": token(key=OTHER_P256, jku="https://attacker.example/jwks.json"),
    "an address of keys at the issuer": token(jku="https://eid.example/jwks.json"),
    "an address of a certificate": token(key=OTHER_P256, x5u="https://attacker.example/cert.pem"),
    "a certificate": token(key=OTHER_P256, x5c=["MIIB"]),
    "no certificate": token(x5c=[]),
    "a thumbprint": token(x5t="dGh1bWI"),
    "another thumbprint": token(header={"alg": "ES256", "kid": "p256", "x5t#S256": "dGh1bWI"}),
    "an extension": token(crit=["exp"], exp=1),
    "an extension that PyJWT knows": token(crit=["b64"], b64=True),
    "an empty list of extensions": token(crit=[]),
    "extensions, null": token(crit=None),
    "a payload that is not encoded": token(crit=["b64"], b64=False),
    "a payload that is not encoded, without saying that this matters": token(b64=False),
    "compression": token(zip="DEF"),
    "encryption": token(enc="A256GCM"),
}
NOT_HEADERS: dict[str, str] = {
    "an algorithm given twice": token(header=b'{"alg":"none","alg":"ES256","kid":"p256"}', signature=b""),
    "an algorithm given twice, spelt with an escape": token(header=b'{"\\u0061lg":"none","alg":"ES256","kid":"p256"}'),
    "a key id given twice": token(header=b'{"alg":"ES256","kid":"rsa","kid":"p256"}'),
    "a member given twice inside": token(header=b'{"alg":"ES256","kid":"p256","a":{"b":1,"b":2}}'),
    "a list": token(header=b'["ES256"]'),
    "a text": token(header=b'"ES256"'),
    "null": token(header=b"null"),
    "a list of pairs": token(header=b'[["alg","ES256"]]'),
    "no JSON": token(header=b"{alg:ES256}"),
    "JSON with a comma too many": token(header=b'{"alg":"ES256","kid":"p256",}'),
    "two objects": token(header=b'{"alg":"ES256","kid":"p256"}{}'),
    "a NUL after it": token(header=b'{"alg":"ES256","kid":"p256"}\0'),
    "a byte order mark": token(header=b'\xef\xbb\xbf{"alg":"ES256","kid":"p256"}'),
    "bad UTF-8": token(header=b'{"alg":"ES256","kid":"p256","a":"\xff"}'),
    "overlong UTF-8": token(header=b'{"alg":"ES256","kid":"p256","a":"\xc0\xaf"}'),
    "a surrogate in UTF-8": token(header=b'{"alg":"ES256","kid":"p256","a":"\xed\xa0\x80"}'),
    "half of a surrogate pair": token(header=b'{"alg":"ES256","kid":"p256","a":"\\ud800"}'),
    "UTF-16": token(header='{"alg":"ES256","kid":"p256"}'.encode("utf-16")),
    "NaN": token(header=b'{"alg":"ES256","kid":"p256","a":NaN}'),
    "infinity": token(header=b'{"alg":"ES256","kid":"p256","a":-Infinity}'),
    "a number without end": token(header=b'{"alg":"ES256","kid":"p256","a":' + b"9" * 9000 + b"}"),
    "nested too deep": token(header=b'{"alg":"ES256","kid":"p256","a":' + b"[" * 40 + b"]" * 40 + b"}"),
    "nested as deep as the stack": token(header=b'{"alg":"ES256","a":' + b"[" * 9000 + b"]" * 9000 + b"}"),
    "objects nested too deep": token(header=b'{"alg":"ES256","kid":"p256","a":' + b'{"a":' * 40 + b"1" + b"}" * 41),
    "a key id that is a number": token(kid=1),
    "a key id that is null": token(kid=None),
    "a key id that is a list": token(kid=["p256"]),
    "an empty key id": token(kid=""),
    "an endless key id": token(kid="k" * 257),
}
SHAPES: dict[str, str] = {
    "nothing": "",
    "dots alone": "..",
    "one part": HEAD,
    "two parts": f"{HEAD}.{BODY}",
    "four parts": f"{GOOD}.{SIGNATURE}",
    "four parts, the last empty": f"{GOOD}.",
    "five parts, as if encrypted": f"{HEAD}.{BODY}.{SIGNATURE}.{BODY}.{SIGNATURE}",
    "no header": f".{BODY}.{SIGNATURE}",
    "no payload": f"{HEAD}..{SIGNATURE}",
    "a padded header": f"{RS_HEAD}{'=' * (-len(RS_HEAD) % 4 or 4)}.{RS_BODY}.{RS_SIGNATURE}",
    "a padded payload": f"{HEAD}.{BODY}==.{SIGNATURE}",
    "a padded signature": f"{HEAD}.{BODY}.{SIGNATURE}==",
    "a percent-encoded pad": f"{HEAD}.{BODY}.{SIGNATURE}%3D%3D",
    "a space before": f" {GOOD}",
    "a space after": f"{GOOD} ",
    "a newline after": f"{GOOD}\n",
    "a newline inside": f"{HEAD}.{BODY[:9]}\n{BODY[9:]}.{SIGNATURE}",
    "a tab inside": f"{HEAD}.{BODY}.{SIGNATURE[:9]}\t{SIGNATURE[9:]}",
    "a NUL after": f"{GOOD}\0",
    "base64 of the other alphabet": f"{HEAD}.{BODY}.{'+/' * 43}",
    "a fullwidth letter": f"{HEAD}.{BODY}.Ａ{SIGNATURE[1:]}",
    "an Arabic digit": f"{HEAD}.{BODY}.{SIGNATURE[:-1]}٣",
    "bits to spare in the signature": f"{HEAD}.{BODY}.{respelt(SIGNATURE)}",
    "a part of one letter": f"{HEAD}.{BODY}.A",
    "a length that no bytes have": f"{HEAD}.{BODY}.{SIGNATURE[:-1]}",
    "JSON, flattened": json.dumps({"protected": HEAD, "payload": BODY, "signature": SIGNATURE}),
    "JSON, general": json.dumps({"payload": BODY, "signatures": [{"protected": HEAD, "signature": SIGNATURE}]}),
    "the scheme of a header before it": f"Bearer {GOOD}",
}


def der(text: bytes) -> bytes:
    return P256.sign(text, ec.ECDSA(hashes.SHA256()))


def twisted(change: Callable[[int, int], tuple[int, int]]) -> Callable[[bytes], bytes]:
    def made(text: bytes) -> bytes:
        r, s = change(*decode_dss_signature(der(text)))
        return r.to_bytes(32) + s.to_bytes(32)

    return made


def psychic(r: int, s: int) -> bytes:
    return r.to_bytes(32) + s.to_bytes(32)


def pkcs1(digest: hashes.HashAlgorithm) -> Callable[[bytes], bytes]:
    return lambda text: RSA.sign(text, padding.PKCS1v15(), digest)


def pss(digest: hashes.HashAlgorithm, salt: int, mask: hashes.HashAlgorithm | None = None) -> Callable[[bytes], bytes]:
    return lambda text: RSA.sign(text, padding.PSS(padding.MGF1(mask or digest), salt), digest)


def bleichenbacher(text: bytes) -> bytes:
    """A cube root of what looks like a padded digest, which passes where padding is not read to its end."""
    block = b"\0\1\xff\0" + bytes.fromhex("3031300d060960864801650304020105000420") + hashlib.sha256(text).digest()
    target = int.from_bytes(block + b"\0" * (256 - len(block)))
    low, high = 0, 1 << 700
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if middle**3 < target else (low, middle)
    return low.to_bytes(256)


SIGNATURES: dict[str, str] = {
    "none at all": token(signature=b""),
    "a signature of another key": token(key=OTHER_P256),
    "a signature of another header": f"{token(typ='jwt').split('.')[0]}.{BODY}.{SIGNATURE}",
    "a signature of another payload": f"{HEAD}.{b64(json.dumps(CLAIMS | {'sub': 'x'}).encode())}.{SIGNATURE}",
    "r and s zero": token(signature=psychic(0, 0)),
    "r zero": token(signature=psychic(0, 1)),
    "s zero": token(signature=psychic(1, 0)),
    "r and s one": token(signature=psychic(1, 1)),
    "r and s the order": token(signature=psychic(N256, N256)),
    "r the order, s one": token(signature=psychic(N256, 1)),
    "r and s as large as can be": token(signature=psychic(2**256 - 1, 2**256 - 1)),
    "r replaced by the order less r": token(signature=twisted(lambda r, s: (N256 - r, s))),
    "r and s exchanged": token(signature=twisted(lambda r, s: (s, r))),
    "DER": token(signature=der),
    "DER of zeros": token(signature=encode_dss_signature(0, 0)),
    "half of it": token(signature=lambda text: sign("ES256", P256, text)[:32]),
    "one byte short": token(signature=lambda text: sign("ES256", P256, text)[:-1]),
    "one byte long": token(signature=lambda text: sign("ES256", P256, text) + b"\0"),
    "one zero before": token(signature=lambda text: b"\0" + sign("ES256", P256, text)),
    "numbers of 33 bytes": token(signature=lambda text: raw_signature(der(text), 33)),
    "another hash": token(signature=lambda text: raw_signature(P256.sign(text, ec.ECDSA(hashes.SHA512())), 32)),
    "PKCS 1 under a PS256 header": token("PS256", signature=pkcs1(hashes.SHA256())),
    "PSS under an RS256 header": token("RS256", signature=pss(hashes.SHA256(), 32)),
    "PKCS 1 of another hash": token("RS256", signature=pkcs1(hashes.SHA512())),
    "PKCS 1 of SHA-1": token("RS256", signature=pkcs1(hashes.SHA1())),  # noqa: S303
    "PSS of another hash": token("PS256", signature=pss(hashes.SHA384(), 48)),
    "PSS with another mask": token("PS256", signature=pss(hashes.SHA256(), 32, hashes.SHA1())),  # noqa: S303
    "PSS without salt": token("PS256", signature=pss(hashes.SHA256(), 0)),
    "PKCS 1 padding that ends early": token("RS256", signature=bleichenbacher),
    "RSA zero": token("RS256", signature=b"\0" * 256),
    "RSA one": token("RS256", signature=b"\0" * 255 + b"\1"),
    "RSA one byte short": token("RS256", signature=lambda text: sign("RS256", RSA, text)[:-1]),
    "RSA one byte long": token("RS256", signature=lambda text: sign("RS256", RSA, text) + b"\0"),
    "RSA plus the modulus": token(
        "RS256",
        signature=lambda text: (
            int.from_bytes(sign("RS256", RSA, text)) + RSA.public_key().public_numbers().n
        ).to_bytes(257),
    ),
    "RSA of another key": token("RS256", key=OTHER_RSA),
    "Ed25519 one byte short": token("EdDSA", signature=lambda text: ED25519.sign(text)[:-1]),
    "Ed25519 one byte long": token("EdDSA", signature=lambda text: ED25519.sign(text) + b"\0"),
    "Ed25519 with s not reduced": token(
        "EdDSA",
        signature=lambda text: (
            ED25519.sign(text)[:32]
            + (
                int.from_bytes(ED25519.sign(text)[32:], "little") + 2**252 + 27742317777372353535851937790883648493
            ).to_bytes(32, "little")
        ),
    ),
    "Ed448 under Ed25519": token("EdDSA", signature=ED448.sign),
}
TYPES: dict[str, str] = {
    "an access token": token(typ="at+jwt"),
    "a logout token": token(typ="logout+jwt"),
    "a certificate of ours": token(typ="bk-address+jwt"),
    "JOSE": token(typ="JOSE"),
    "nothing": token(typ=""),
    "null": token(typ=None),
    "a list": token(typ=["JWT"]),
    "with a space": token(typ="JWT "),
    "another kind of media": token(typ="text/jwt"),
}
PAYLOADS: dict[str, str] = {
    "a claim given twice": token(payload=b'{"sub":"a","sub":"b"}'),
    "a claim given twice, spelt with an escape": token(payload=b'{"sub":"a","\\u0073ub":"b"}'),
    "a claim given twice inside": token(payload=b'{"sub":"a","address":{"x":1,"x":2}}'),
    "a list": token(payload=b'[{"sub":"a"}]'),
    "a text": token(payload=b'"sub"'),
    "null": token(payload=b"null"),
    "no JSON": token(payload=b"sub=a"),
    "bad UTF-8": token(payload=b'{"sub":"\xff"}'),
    "half of a surrogate pair": token(payload=b'{"sub":"\\udc00"}'),
    "NaN": token(payload=b'{"exp":NaN}'),
    "infinity": token(payload=b'{"exp":Infinity}'),
    "a number that is infinite": token(payload=b'{"exp":1e999}'),
    "a number without end": token(payload=b'{"exp":' + b"9" * 9000 + b"}"),
    "nested too deep": token(payload=b'{"a":' + b"[" * 40 + b"]" * 40 + b"}"),
    "nested as deep as the stack": token(payload=b'{"a":' + b"[" * 9000 + b"]" * 9000 + b"}"),
    "more after it": token(payload=b'{"sub":"a"}{"sub":"b"}'),
}
UNKNOWN: dict[str, str] = {
    "an id that is not there": token(kid="gone"),
    "an id in other letters": token(kid="P256"),
    "an id with a path": token(kid="../../../dev/null"),
    "an id with SQL": token(kid="p256' OR '1'='1"),
    "an id with a space": token(kid="p256 "),
}
UNSUITABLE: dict[str, str] = {
    "an RSA key for ES256": token(kid="rsa"),
    "a P-384 key for ES256": token(kid="p384", key=P384),
    "a P-256 key for ES384": token(
        "ES384", kid="p256", signature=lambda text: raw_signature(P256.sign(text, ec.ECDSA(hashes.SHA384())), 32)
    ),
    "a P-521 key for ES256": token(kid="p521", key=P521),
    "a P-256 key for ES512": token("ES512", kid="p256"),
    "an EC key for RS256": token("RS256", kid="p256"),
    "an EC key for EdDSA": token("EdDSA", kid="p256"),
    "an Ed25519 key for ES256": token(kid="ed25519"),
    "a secret for ES256": token(kid="oct"),
}
VECTORS = [
    pytest.param(text, reason, id=f"{reason}: {name}")
    for reason, table in {
        Reason.WRONG_ALGORITHM: ALGORITHMS,
        Reason.FORBIDDEN_HEADER: HEADERS,
        Reason.BAD_HEADER: NOT_HEADERS,
        Reason.MALFORMED: SHAPES,
        Reason.WRONG_SIGNATURE: SIGNATURES,
        Reason.WRONG_TYPE: TYPES,
        Reason.BAD_CLAIMS: PAYLOADS,
        Reason.UNKNOWN_KEY: UNKNOWN,
        Reason.UNSUITABLE_KEY: UNSUITABLE,
        Reason.TOO_LONG: {
            "a long payload": token(payload={"sub": "a" * LONGEST_TOKEN}),
            "a long header": token(header=b'{"alg":"ES256","a":"' + b"a" * LONGEST_TOKEN + b'"}'),
            "a long signature": token(signature=b"\0" * LONGEST_TOKEN),
            "dots without end": "." * 1_000_000,
        },
    }.items()
    for name, text in table.items()
]


@pytest.mark.parametrize(("text", "reason"), VECTORS)
def test_no_hostile_token_passes(text: str, reason: Reason) -> None:
    assert refused(text) == reason


def off_the_curve() -> dict[str, Any]:
    point = P256.public_key().public_numbers()
    return jwk(P256, "k", y=number(point.y ^ 1, 32))


# What is published, and a token that would be good by that key.
BAD_KEYS: dict[str, tuple[dict[str, Any], str]] = {
    "for encryption": (jwk(P256, "k", use="enc"), token(kid="k")),
    "for nothing that is known": (jwk(P256, "k", use="tls"), token(kid="k")),
    "for signatures in capitals": (jwk(P256, "k", use="SIG"), token(kid="k")),
    "use is a list": (jwk(P256, "k", use=["sig"]), token(kid="k")),
    "use is null": (jwk(P256, "k") | {"use": None}, token(kid="k")),
    "to sign with": (jwk(P256, "k", key_ops=["sign"]), token(kid="k")),
    "to encrypt with": (jwk(RSA, "k", key_ops=["encrypt", "wrapKey"]), token("RS256", kid="k")),
    "for no operation": (jwk(P256, "k", key_ops=[]), token(kid="k")),
    "operations are a text": (jwk(P256, "k", key_ops="verify"), token(kid="k")),
    "operations are null": (jwk(P256, "k") | {"key_ops": None}, token(kid="k")),
    "for another algorithm": (jwk(RSA, "k", alg="PS256"), token("RS256", kid="k")),
    "for the same algorithm with another hash": (jwk(RSA, "k", alg="PS256"), token("PS384", kid="k")),
    "for an algorithm that is misspelt": (jwk(P521, "k", alg="ES521"), token("ES512", kid="k")),
    "for encryption by its algorithm": (jwk(RSA, "k", alg="RSA-OAEP-256"), token("RS256", kid="k")),
    "the algorithm is null": (jwk(P256, "k") | {"alg": None}, token(kid="k")),
    "the algorithm is a list": (jwk(P256, "k", alg=["ES256"]), token(kid="k")),
    "RSA of 1024 bits": (jwk(WEAK_RSA, "k"), token("RS256", kid="k", key=WEAK_RSA)),
    "RSA with the exponent 1": (jwk(RSA, "k", e="AQ"), token("RS256", kid="k")),
    "RSA with an even exponent": (jwk(RSA, "k", e="AgAC"), token("RS256", kid="k")),
    "RSA with an endless exponent": (jwk(RSA, "k", e=b64(b"\1" * 64)), token("RS256", kid="k")),
    "RSA with an endless modulus": (jwk(RSA, "k", n=b64(b"\xff" * 4096)), token("RS256", kid="k")),
    "RSA with an even modulus": (jwk(RSA, "k", n=b64(b"\xff" * 255 + b"\xfe")), token("RS256", kid="k")),
    "RSA with padding": (jwk(RSA, "k", e="AQAB===="), token("RS256", kid="k")),
    "RSA with the modulus of a number": (jwk(RSA, "k", n=65537), token("RS256", kid="k")),
    "RSA without exponent": (jwk(RSA, "k", e=...), token("RS256", kid="k")),
    "RSA with its secret": (jwk(RSA, "k", d=number(RSA.private_numbers().d)), token("RS256", kid="k")),
    "EC with its secret": (jwk(P256, "k", d=number(P256.private_numbers().private_value, 32)), token(kid="k")),
    "EC off its curve": (off_the_curve(), token(kid="k")),
    "EC at infinity": (jwk(P256, "k", x=b64(b"\0" * 32), y=b64(b"\0" * 32)), token(kid="k")),
    "EC with a number too short": (jwk(P256, "k", x=b64(b"\1" * 31)), token(kid="k")),
    "EC with a number too long": (jwk(P256, "k", x=b64(b"\0" + b"\1" * 32)), token(kid="k")),
    "EC with half a point": (jwk(P256, "k", y=...), token(kid="k")),
    "EC of Bitcoin": (jwk(SECP256K1, "k"), token(kid="k", key=SECP256K1)),
    "EC of Bitcoin that says it is P-256": (jwk(SECP256K1, "k", crv="P-256"), token(kid="k", key=SECP256K1)),
    "EC of P-384 that says it is P-256": (jwk(P384, "k", crv="P-256"), token(kid="k")),
    "EC without a curve": (jwk(P256, "k", crv=...), token(kid="k")),
    "Ed448": (jwk(ED448, "k"), token("EdDSA", kid="k", key=ED448)),
    "Ed25519 too short": (jwk(ED25519, "k", x=b64(b"\1" * 31)), token("EdDSA", kid="k")),
    "X25519": (jwk(ED25519, "k", crv="X25519"), token("EdDSA", kid="k")),
    "a secret": ({"kty": "oct", "kid": "k", "k": b64(b"s" * 32)}, token(kid="k")),
    "no kind": (jwk(P256, "k", kty=...), token(kid="k")),
    "a kind in small letters": (jwk(P256, "k", kty="ec"), token(kid="k")),
    "a kind that is a list": (jwk(P256, "k", kty=["EC"]), token(kid="k")),
}


@pytest.mark.parametrize(("entry", "text"), BAD_KEYS.values(), ids=BAD_KEYS)
def test_no_key_is_used_for_what_it_is_not(entry: dict[str, Any], text: str) -> None:
    assert refused(text, one(entry)) == Reason.UNSUITABLE_KEY


class TestChoosingAKey:
    def test_a_key_id_must_be_that_of_a_key(self) -> None:
        assert refused(token(kid="k"), one(jwk(P256, None))) == Reason.UNKNOWN_KEY
        assert refused(token(kid="k"), one(jwk(P256, "k") | {"kid": 1})) == Reason.UNKNOWN_KEY
        assert refused(token(kid=...), one()) == Reason.UNKNOWN_KEY

    def test_keys_of_two_kinds_may_share_an_id(self) -> None:
        keys = one(jwk(P256, "k"), jwk(RSA, "k"))

        assert (refused(token(kid="k"), keys), refused(token("RS256", kid="k"), keys)) == (None, None)

    def test_two_keys_of_one_kind_may_not(self) -> None:
        keys = one(jwk(OTHER_P256, "k"), jwk(P256, "k"))

        assert refused(token(kid="k"), keys) == Reason.AMBIGUOUS_KEY

    def test_what_is_no_key_does_not_hide_the_others(self) -> None:
        document = {"keys": ["nonsense", 1, None, [], {}, off_the_curve(), jwk(P256, "p256")]}

        assert refused(token(), Jwks(document)) is None

    @pytest.mark.parametrize(
        "raw",
        [
            b"",
            b"[]",
            b"{}",
            b'{"keys":null}',
            b'{"keys":{}}',
            b'{"keys":[],"keys":[]}',
            b"<html>",
            json.dumps({"keys": [jwk(P256, "k")] * (MOST_KEYS + 1)}).encode(),
            b'{"keys":[],"a":"' + b"a" * 262_144 + b'"}',
        ],
        ids=map(str, range(9)),
    )
    def test_what_is_no_set_is_told(self, raw: bytes) -> None:
        with pytest.raises(ValueError, match=r"JWK set|JSON|twice|longer"):
            Jwks.parse(raw)


class TestTypes:
    @pytest.mark.parametrize("typ", ["JWT", "jwt", "application/jwt", "application/JWT"])
    def test_a_type_is_a_media_type(self, typ: str) -> None:
        assert refused(token(typ=typ)) is None

    @pytest.mark.parametrize(("typ", "good"), [("at+jwt", True), ("JWT", False), (..., False)])
    def test_where_a_type_is_wanted_it_must_be_there(self, typ: Any, good: bool) -> None:  # noqa: FBT001
        reason = refused(token(typ=typ), typ=frozenset({"at+jwt"}))

        assert reason == (None if good else Reason.WRONG_TYPE)


def test_an_algorithm_of_a_secret_does_not_count_even_if_it_is_allowed_by_mistake() -> None:
    text = token(alg="HS256", kid="rsa", signature=mac(PEM))

    assert refused(text, algorithms=("HS256", "none")) == Reason.WRONG_ALGORITHM
    assert refused(token(signature=b"", alg="none"), algorithms=("HS256", "none")) == Reason.WRONG_ALGORITHM


# OpenID Connect Core gives no numbers; these are computed apart from our code.
@pytest.mark.parametrize(
    ("algorithm", "digest"), [("ES256", "sha256"), ("PS384", "sha384"), ("RS512", "sha512"), ("EdDSA", "sha512")]
)
def test_half_a_hash_is_the_left_half_in_base64url(algorithm: str, digest: str) -> None:
    whole = hashlib.new(digest, b"jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y").digest()

    assert half_hash("jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y", algorithm) == b64(whole[: len(whole) // 2])


def test_the_known_half_hash_of_openid_connect() -> None:
    # From the examples of OpenID Connect Core, Appendix A.3 and A.4.
    assert half_hash("jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y", "RS256") == "77QmUPtjPfzWtF2AnpK9RQ"
    assert half_hash("Qcb0Orv1zh30vL1MPRsbm-diHiMwcLyZvn1arpZv-Jxf_11jnpEX3Tgfvk", "RS256") == "LDktKdoQak3Pk0cnXxCltA"


def test_a_sentence_of_refusal_repeats_nothing_of_the_token() -> None:
    for param in VECTORS:
        text, _ = param.values
        with pytest.raises(BadToken) as refusal:
            verify(str(text), keys=SET, algorithms=SIGNING_ALGORITHMS, typ=ID_TOKEN)
        words = str(refusal.value)
        assert not any(part in words for part in str(text).split(".") if len(part) > 8)
        assert refusal.value.__cause__ is None


def test_a_hostile_text_costs_no_time() -> None:
    started = time.perf_counter()
    for raw in (b'{"a":"' + b'\\"' * 16_000, b"[" * 32_000, b'"' * 32_000, b"{" * 16_000 + b"}" * 16_000):
        with pytest.raises(ValueError, match=r"JSON|nested"):
            read_object(raw)

    assert time.perf_counter() - started < 1


nested = st.recursive(st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(), st.lists)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), nested))
def test_what_json_says_is_read_as_it_is(found: dict[str, Any]) -> None:
    raw = json.dumps(found, ensure_ascii=False).encode("utf-8", "surrogatepass")
    shallow = raw.count(b"[") < DEEPEST
    try:
        again = read_object(raw)
    except ValueError:
        assert not shallow or not is_text(raw)
    else:
        assert again == found


def is_text(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


@given(st.text() | st.text("AEcd09-_.=", max_size=60) | st.binary().map(lambda raw: raw.decode("latin-1")))
def test_any_other_text_is_refused_and_never_breaks_the_gate(text: str) -> None:
    assert refused(text) is not None


@given(st.integers(0, len(GOOD) - 1), st.sampled_from("ABCXYZabcxyz0189-_.= "))
def test_one_letter_changed_is_caught(place: int, letter: str) -> None:
    changed = GOOD[:place] + letter + GOOD[place + 1 :]
    if changed != GOOD:
        assert refused(changed) is not None
