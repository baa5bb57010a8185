"""What a certificate or a plate says about an address, taken from what the register knows."""

from datetime import UTC, datetime

import msgspec

from bkapp.address.certificates import Signer, Statement, link
from bkapp.address.plates import Plate
from bkapp.address.pluscodes import encode as plus_code
from bkapp.address.queries import Details, Summary


def statement_of(found: Summary, details: Details | None, *, issuer: str, now: datetime) -> Statement:
    """The statement the register signs today; with the exact place only for those who may see it."""
    return Statement(
        code=found.code,
        status=found.status.value,
        unit_code=found.unit.code,
        unit_name=found.unit.name,
        unit_valid_from=found.unit.valid_from,
        hamlet=found.hamlet,
        revision=found.stated,
        issued_at=now.astimezone(UTC).replace(microsecond=0),
        issuer=issuer,
        plus_code=plus_code(details.lon, details.lat, 11) if details else None,
    )


def plate_of(
    found: Summary, details: Details | None, *, signer: Signer, issuer: str, now: datetime, local: datetime
) -> Plate:
    """The plate for a door.  ``local`` is ``now`` on the clock of Bắc Kạn."""
    token = signer.sign(statement_of(found, details, issuer=issuer, now=now))
    return Plate(
        code=found.code,
        unit_name=found.unit.name,
        province_name=found.province or "",
        hamlet=found.hamlet,
        house_number=details.house_number if details else None,
        street=details.street if details else None,
        plus_code=plus_code(details.lon, details.lat, 11) if details else None,
        qr_text=link(issuer, found.code, token),
        check_url=f"{issuer}/c/{found.code}",
        issued_on=local.date(),
        status=found.status.value,
        demo=found.demo,
    )


def plain(statement: Statement) -> dict[str, object]:
    """A statement as JSON values."""
    values: dict[str, object] = msgspec.to_builtins(statement)
    return values
