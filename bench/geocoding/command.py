"""``python -m bench geocoding``: its options."""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
from typing_extensions import override

from bench.geocoding import addok, queries, run
from bench.geocoding.generator import SEED
from bench.geocoding.kinds import KINDS
from bench.geocoding.queries import COUNT
from bench.load import ADDRESS


class Kinds(click.ParamType):
    """Names of kinds of queries, with commas between them."""

    name = "kinds"

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = tuple(KINDS) if value == "all" else tuple(str(value).split(","))
        if unknown := [name for name in names if name not in KINDS]:
            self.fail(f"unknown: {', '.join(unknown)}; there are {', '.join(KINDS)}", param, ctx)
        return names


class Loopback(click.ParamType):
    """The address of a server on this machine; what counts is its port."""

    name = "url"

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            parts = urlsplit(str(value))
            port = parts.port
        except ValueError:
            port = None
        if port is None or parts.scheme != "http" or parts.hostname not in {ADDRESS, "localhost"}:
            self.fail(f"write http://{ADDRESS}:PORT; load goes to this machine only", param, ctx)
        return port


@click.command("geocoding", short_help="Find addresses typed in many ways; beside addok.")
@click.option("--queries", "count", type=click.IntRange(1), default=COUNT, help="Queries of each kind.")
@click.option("--seed", default=SEED, help="Another number: other queries than the frozen set.")
@click.option("--kinds", type=Kinds(), default="all", help="Which kinds of queries, with commas between them.")
@click.option("--misses", type=click.IntRange(0), default=0, help="So many wrong answers of each kind are shown.")
@click.option("--dump", type=click.Path(path_type=Path, dir_okay=False), help="Only write the queries as CSV.")
@click.option("--url", "port", type=Loopback(), help="Ask a server of ours that is running and has the province.")
@click.option("--keep", metavar="NAME", help="Keep the filled database, and take it if it is there already.")
@click.option("--peer/--no-peer", default=True, help="With addok beside us, if it is installed.")
@click.option("--stock", is_flag=True, help="addok as it falls out of the box, not set up for Vietnamese.")
@click.option("--install-peers", is_flag=True, help="Only install addok, below bench/.peers.")
@click.option("--load/--no-load", default=True, help="With throughput, CSV files and reverse.")
@click.option("--connections", type=click.IntRange(1), multiple=True, default=(4, 8), help="Repeat it.")
@click.option("--seconds", default=3.0, help="Length of a run.")
@click.option("--rounds", type=click.IntRange(1), default=3, help="Runs of each, in turns.")
@click.option("--csv-rows", type=click.IntRange(1), default=4_000, help="Rows of our CSV file.")
@click.option("--peer-csv-rows", type=click.IntRange(1), default=500, help="Rows of the peer's.")
def geocoding(dump: Path | None, *, install_peers: bool, **options: Any) -> dict[str, Any]:
    """Find addresses typed in many ways; beside addok."""
    if install_peers:
        addok.install()
        return {"installed": list(addok.PACKAGES)}
    if dump:
        return {"geocoding": run.dumped(dump, queries.all_kinds(options["kinds"], options["count"], options["seed"]))}
    return {"geocoding": run.run(run.Options(**options))}
