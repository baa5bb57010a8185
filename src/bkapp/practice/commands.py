"""``bkapp demo people`` and ``bkapp demo payments``: offices for the test citizens, and fees for them to pay."""

from datetime import UTC, datetime

import click

from bkapp.config import BadSetting, Settings
from bkapp.db import Sessions
from bkapp.http import today
from bkapp.identity import operations
from bkapp.identity.queries import office
from bkapp.payments.models import Beneficiary, ProcedureAccount
from bkapp.payments.operations import bills, merchants
from bkapp.payments.providers import Line
from bkapp.payments.rules import FeeKind
from bkapp.practice.paying.merchants import practice_merchants
from bkapp.practice.people import OFFICES, PHU_THONG, person
from bkapp.running import on_database
from bkapp.sealing import Keyring
from bkapp.units import queries as units


@click.command("people", short_help="Give the practice eID's officers their offices.")
def demo_people() -> None:
    """Give the practice eID's officers their offices.  Safe to repeat."""

    async def work(settings: Settings, sessions: Sessions) -> int:
        if not settings.demo:
            raise BadSetting("BKAPP_DEMO is not 1: the people of the practice eID get no offices.")
        keyring, given = Keyring.parse(settings.data_keys, settings.lookup_key), 0
        for handle, (role, code) in OFFICES.items():
            async with sessions.begin() as session:
                number = person(handle).number
                there = await operations.person_of(session, keyring, number, is_demo=True)
                if await office(session, there) is not None:
                    continue
                unit = await units.unit_on(session, code, today()) if code else None
                await operations.grant_office(
                    session,
                    keyring,
                    number=number,
                    role=role,
                    unit_id=unit.id if unit else None,
                    actor="demo",
                    is_demo=True,
                    now=datetime.now(UTC),
                )
                given += 1
        return given

    click.echo(f"demo: {on_database(work)} offices given", err=True)


BILLS = (
    ("chu-ho", "2.000815", "Chứng thực bản sao từ bản chính", "Lệ phí chứng thực", FeeKind.CHARGE, 20_000),
    ("chu-ho", "1.001612", "Đăng ký thành lập hộ kinh doanh", "Lệ phí đăng ký hộ kinh doanh", FeeKind.CHARGE, 100_000),
    ("vo", "1.004884", "Đăng ký lại khai sinh", "Lệ phí hộ tịch", FeeKind.CHARGE, 8_000),
    ("ba-78", "1.012753", "Cấp giấy chứng nhận quyền sử dụng đất", "Phí thẩm định hồ sơ", FeeKind.FEE, 650_000),
)
"""What the demo's people owe: who, the procedure, what for, how much."""
COMMUNE = PHU_THONG


@click.command("payments", short_help="Open accounts with the practice payment providers and issue some bills.")
def demo_payments() -> None:
    """Open accounts with the practice payment providers and issue some bills.  Safe to repeat."""

    async def work(settings: Settings, sessions: Sessions) -> int:
        if not settings.demo:
            raise BadSetting("BKAPP_DEMO is not 1: practice payment providers take no real money.")
        keyring = Keyring.parse(settings.data_keys, settings.lookup_key)
        async with sessions.begin() as session:
            if await session.get(ProcedureAccount, bills.ANY_PROCEDURE) is not None:
                return 0
            agency = Beneficiary(
                name="Trung tâm Phục vụ hành chính công xã Phủ Thông",
                bank_bin="970436",
                account="1023456789012",
                account_name="UBND XA PHU THONG",
            )
            session.add(agency)
            await session.flush()
            session.add(ProcedureAccount(procedure_code=bills.ANY_PROCEDURE, beneficiary_id=agency.id))
            for position, merchant in enumerate(practice_merchants(f"http://localhost:{settings.practice_port}")):
                row = await merchants.add_merchant(
                    session,
                    key=merchant.key,
                    provider=merchant.provider,
                    code=merchant.code,
                    title=merchant.title,
                    options=merchant.options,
                    allowed_ips=merchant.allowed_ips,
                    position=position,
                    by="demo",
                )
                for purpose, secret in merchant.secrets.items():
                    await merchants.add_secret(session, keyring, row, purpose=purpose, secret=secret, by="demo")
            unit = await units.unit_on(session, COMMUNE, today())
            now = datetime.now(UTC)
            for number, (handle, procedure, title, fee, kind, amount) in enumerate(BILLS, 1):
                citizen = person(handle)
                await bills.issue_bill(
                    session,
                    keyring,
                    lines=[Line(kind, "01", fee, amount)],
                    description=f"{fee}: {title}",
                    procedure_code=procedure,
                    procedure_name=title,
                    dossier_code=f"000.00.19.H03-{today():%y%m%d}-{number:04d}",
                    unit_id=unit.id if unit else None,
                    payer_number=citizen.number,
                    payer_name=citizen.name,
                    by="demo",
                    now=now,
                )
        return len(BILLS)

    click.echo(f"demo: {on_database(work)} bills issued", err=True)
