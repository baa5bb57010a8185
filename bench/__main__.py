"""``python -m bench COMMAND``; every option has a default that suits a small machine."""

import os
import signal
import sys
from typing import Any

import click
import msgspec
from typing_extensions import override

from bench import audit, importing, payments, resolve, scaling, servers_compared, signed_in, tiles, webhooks
from bench.geocoding.command import geocoding

Figures = dict[str, Any]


class Numbers(click.ParamType):
    """Whole numbers above zero, with commas between them."""

    name = "numbers"

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        parts = str(value).split(",")
        if not all(part.isdigit() and int(part) for part in parts):
            self.fail("write whole numbers above zero with commas between them", param, ctx)
        return tuple(sorted(int(part) for part in parts))


households = click.option("--households", default=20_000)
pairs = click.option("--pairs", default=7, help="Runs of each, in turns.")
most = click.option("--most", default=2500, help="Bills are prepared for so many a second.")
seconds = click.option("--seconds", default=3.0, help="Length of a run.")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
def main() -> None:
    """Benchmarks of the hot paths, each beside a physical limit or a peer."""
    # kill ends a run as Ctrl-C does: with its servers stopped and its databases dropped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@main.result_callback()
def end(figures: Figures) -> None:
    """One line for programs."""
    machine = {"cpus": os.cpu_count(), "python": sys.version.split()[0]}
    click.echo("\n" + msgspec.json.encode({**figures, "machine": machine}).decode())


@main.command("resolve")
@households
@pairs
@seconds
@click.option("--connections", type=Numbers(), default="8,32")
def run_resolve(households: int, pairs: int, seconds: float, connections: tuple[int, ...]) -> Figures:
    """Look codes up over HTTP; beside bare ASGI and pgbench."""
    return {"resolve": resolve.run(households=households, pairs=pairs, seconds=seconds, concurrencies=connections)}


@main.command("import")
@click.option("--households", default=50_000)
@click.option("--batch", default=2000, help="Rows in a transaction.")
@click.option("--rounds", default=3)
def run_import(households: int, batch: int, rounds: int) -> Figures:
    """Import households; beside COPY of the same rows."""
    return {"import": importing.run(households=households, batch=batch, rounds=rounds)}


@main.command("scale")
@click.option("--sizes", type=Numbers(), default="10000,100000,1000000")
@click.option("--rounds", default=7)
@click.option("--seconds", default=2.0, help="Length of a run.")
def run_scale(sizes: tuple[int, ...], rounds: int, seconds: float) -> Figures:
    """Look codes up among more and more households."""
    return {"scale": scaling.run(sizes=sizes, rounds=rounds, seconds=seconds)}


@main.command("servers")
@households
@pairs
@seconds
@click.option("--connections", type=Numbers(), default="8,32,128")
def run_servers(households: int, pairs: int, seconds: float, connections: tuple[int, ...]) -> Figures:
    """Granian, which serves us, beside Uvicorn."""
    return {
        "servers": servers_compared.run(households=households, pairs=pairs, seconds=seconds, concurrencies=connections)
    }


@main.command("tiles")
@click.option("--households", default=83_000)
@click.option("--pairs", default=5, help="Runs of each, in turns.")
@seconds
@click.option("--connections", default=2)
@click.option("--zooms", type=Numbers(), default="12,14,16")
def run_tiles(households: int, pairs: int, seconds: float, connections: int, zooms: tuple[int, ...]) -> Figures:
    """Tiles of the map of addresses; beside pgbench with the same SQL."""
    return {
        "tiles": tiles.run(households=households, pairs=pairs, seconds=seconds, connections=connections, zooms=zooms)
    }


@main.command("audit")
@click.option("--entries", default=200_000, help="Entries to verify.")
@click.option("--reads", default=200_000, help="Reads to seal in a round.")
@click.option("--rounds", default=5)
@click.option("--pairs", default=5, help="Runs of appending, in turns.")
@seconds
@click.option("--connections", type=Numbers(), default="1,8")
def run_audit(
    entries: int, reads: int, rounds: int, pairs: int, seconds: float, connections: tuple[int, ...]
) -> Figures:
    """The audit chain: append, seal reads, verify; beside pgbench, and beside COPY and SHA-256 alone."""
    return {
        "audit": audit.run(
            entries=entries, reads=reads, rounds=rounds, pairs=pairs, seconds=seconds, connections=connections
        )
    }


@main.command("signed-in")
@click.option("--people", default=50_000, help="People with a session each.")
@click.option("--pairs", default=5, help="Runs of each, in turns.")
@seconds
@click.option("--connections", type=Numbers(), default="8,32")
def run_signed_in(people: int, pairs: int, seconds: float, connections: tuple[int, ...]) -> Figures:
    """Look codes up with a session; beside the same without one, and pgbench with the look-up of the session."""
    return {"signed_in": signed_in.run(people=people, pairs=pairs, seconds=seconds, concurrencies=connections)}


@main.command("webhooks")
@click.option("--pairs", default=5, help="Runs of each, in turns.")
@seconds
@click.option("--connections", type=Numbers(), default="8,32")
@most
def run_webhooks(pairs: int, seconds: float, connections: tuple[int, ...], most: int) -> Figures:
    """Take a provider's messages that money came; beside pgbench with the same rows."""
    return {"webhooks": webhooks.run(pairs=pairs, seconds=seconds, concurrencies=connections, most=most)}


@main.command("payments")
@click.option("--pairs", default=5, help="Runs of each, in turns.")
@seconds
@click.option("--connections", type=Numbers(), default="8,32")
@most
def run_payments(pairs: int, seconds: float, connections: tuple[int, ...], most: int) -> Figures:
    """Start paying and look how it stands; beside pgbench with the same SQL."""
    return {"payments": payments.run(pairs=pairs, seconds=seconds, concurrencies=connections, most=most)}


main.add_command(geocoding)


@main.command("all")
@click.pass_context
def run_all(context: click.Context) -> Figures:
    """All of them with their defaults, but for geocoding, which takes long and has a peer to install."""
    figures: Figures = {}
    for command in (
        run_resolve,
        run_import,
        run_scale,
        run_servers,
        run_tiles,
        run_audit,
        run_signed_in,
        run_webhooks,
        run_payments,
    ):
        figures |= context.invoke(command)
    return figures


if __name__ == "__main__":
    main()
