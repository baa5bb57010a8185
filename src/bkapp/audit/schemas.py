"""What the API says about the audit chain."""

from datetime import datetime
from typing import Annotated, Self

from msgspec import Meta, Struct

from bkapp.audit.queries import CheckpointRow


class CheckpointOut(Struct, frozen=True):
    """How far the audit chain was at a time, signed."""

    seq: Annotated[int, Meta(description="The number of the last entry it covers.")]
    made_at: datetime
    hash: Annotated[str, Meta(description="The hash of that entry: SHA-256 in hex.", pattern="^[0-9a-f]{64}$")]
    token: Annotated[
        str,
        Meta(description="The same signed: a JWS of type `bk-audit+jwt` for the keys of `/.well-known/jwks.json`."),
    ]

    @classmethod
    def of(cls, row: CheckpointRow) -> Self:
        return cls(seq=row.seq, made_at=row.made_at, hash=row.hash.hex(), token=row.token)
