"""Commands about money, for ``bkapp payments`` and ``bkapp ledger``."""

import sys
from datetime import UTC, datetime
from uuid import UUID

import click
from sqlalchemy.ext.asyncio import AsyncSession

from bkapp.config import BadSetting, Settings, load_settings
from bkapp.payments.commands.reconciliation import reconcile, reconciliation
from bkapp.payments.models import Beneficiary, ProcedureAccount
from bkapp.payments.operations import ledger as books
from bkapp.payments.operations import merchants
from bkapp.payments.operations.ledger import Break
from bkapp.payments.rules import EDGES, LIVE, REFUND_EDGES, RESERVING
from bkapp.running import in_transaction
from bkapp.sealing import Keyring

ACTOR = "cli"


@click.group()
def payments() -> None:
    """Accounts with payment providers, their secrets, reconciliation, the graph of states."""


@payments.command("graph")
def graph() -> None:
    """Draw the graphs of attempts and refunds as Mermaid, as docs/payments.md shows them."""
    click.echo(drawn())


def drawn() -> str:
    """Both graphs as the documentation holds them."""
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> created"]
    lines += [f"    {edge.start} --> {edge.end}: {edge.event}" for edge in EDGES]
    lines += [f"    {end} --> [*]" for end in sorted({edge.end for edge in EDGES} - LIVE)]
    lines += ["```", "", "```mermaid", "stateDiagram-v2", "    [*] --> waiting", "    [*] --> approved"]
    lines += [f"    {start} --> {end}" for start, ends in REFUND_EDGES.items() for end in sorted(ends)]
    lines += [f"    {end} --> [*]" for end in sorted(set(REFUND_EDGES) - RESERVING)]
    return "\n".join([*lines, "```"])


@payments.command("merchant", short_help="Open an account of ours with a provider.")
@click.option("--key", required=True, help="Its name in our addresses, such as vnpay.")
@click.option(
    "--provider",
    required=True,
    type=click.Choice(["paygov", "keypay", "vnpay", "momo", "zalopay", "viettel", "vietqr"]),
)
@click.option("--code", required=True, help="What the provider calls us.")
@click.option("--title", required=True, help="What the payer chooses, in Vietnamese.")
@click.option("--option", "options", multiple=True, metavar="NAME=VALUE", help="An address, or what else is no secret.")
@click.option("--allow", "allowed", multiple=True, metavar="NETWORK", help="Where its messages come from.")
def merchant(
    key: str, provider: str, code: str, title: str, options: tuple[str, ...], allowed: tuple[str, ...]
) -> None:
    """Open an account of ours with a provider. docs/payments.md says what options each takes."""
    pairs = dict(option.partition("=")[::2] for option in options)

    async def work(session: AsyncSession) -> None:
        await merchants.add_merchant(
            session, key=key, provider=provider, code=code, title=title, options=pairs, allowed_ips=allowed, by=ACTOR
        )

    in_transaction(work)
    click.echo(f"{key}: added", err=True)


@payments.command("secret", short_help="Give a merchant a new secret.")
@click.argument("merchant_key")
@click.option("--purpose", required=True, help="What the provider calls for; docs/payments.md lists them.")
def secret(merchant_key: str, purpose: str) -> None:
    """Give a merchant a new secret, read from standard input. It signs from now on; the one before is believed until
    `bkapp payments retire` ends it. The id of the new one is shown."""
    given = sys.stdin.read().strip()
    if not given:
        raise click.UsageError("Give the secret on standard input.")
    keyring = keyring_of(load_settings())

    async def work(session: AsyncSession) -> str:
        row = await merchants.merchant_row(session, merchant_key)
        return str(await merchants.add_secret(session, keyring, row, purpose=purpose, secret=given, by=ACTOR))

    click.echo(in_transaction(work))


@payments.command("retire")
@click.argument("merchant_key")
@click.argument("secret_id", type=click.UUID)
def retire(merchant_key: str, secret_id: UUID) -> None:
    """Believe a secret of a merchant no more."""

    async def work(session: AsyncSession) -> None:
        row = await merchants.merchant_row(session, merchant_key)
        await merchants.retire_secret(session, row, secret_id, by=ACTOR, now=datetime.now(UTC))

    in_transaction(work)
    click.echo("retired", err=True)


@payments.command("account", short_help="Say whose account the fees of a procedure go to.")
@click.option("--procedure", "procedures", multiple=True, default=["*"], show_default=True, help="* stands for all.")
@click.option("--name", required=True, help="The agency, in Vietnamese.")
@click.option("--bin", "bank_bin", required=True, help="The bank's number at NAPAS, 6 digits.")
@click.option("--account", required=True)
@click.option("--account-name", required=True, help="As the bank writes it, in ASCII capitals.")
def account(procedures: tuple[str, ...], name: str, bank_bin: str, account: str, account_name: str) -> None:
    """Say whose account the fees of a procedure go to; bills issued from now on ask for it."""

    async def work(session: AsyncSession) -> None:
        agency = Beneficiary(name=name, bank_bin=bank_bin, account=account, account_name=account_name)
        session.add(agency)
        await session.flush()
        for procedure in procedures:
            row = await session.get(ProcedureAccount, procedure)
            if row is None:
                session.add(ProcedureAccount(procedure_code=procedure, beneficiary_id=agency.id))
            else:
                row.beneficiary_id = agency.id

    in_transaction(work)
    click.echo("done", err=True)


payments.add_command(reconcile)
payments.add_command(reconciliation)


@click.group()
def ledger() -> None:
    """The books."""


@ledger.command("verify")
def verify() -> None:
    """Verify the chain of the ledger and every promise about money; end with 1 if anything is wrong."""

    async def work(session: AsyncSession) -> list[Break]:
        await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        return await books.verify(session)

    found = in_transaction(work)
    for one in found:
        click.echo(f"{one.kind} {one.where}: {one.detail}")
    if found:
        raise SystemExit(1)
    click.echo("the ledger is whole", err=True)


@ledger.command("balances")
def balances() -> None:
    """What every account comes to, in đồng."""
    for name, total in in_transaction(books.balances).items():
        click.echo(f"{total:>16,} {name}")


def keyring_of(settings: Settings) -> Keyring:
    """The keys of personal data; raise :class:`BadSetting` where there are none."""
    if not settings.data_keys:
        raise BadSetting("BKAPP_DATA_KEYS is not set: secrets of merchants are sealed with it.")
    return Keyring.parse(settings.data_keys, settings.lookup_key)
