"""The session in README.md, word for word, and the consumer in docs/registry.md, against a server just started."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
SESSION = (ROOT / "README.md").read_text().partition("## The main job")[2].partition("\n## ")[0]

# A block of commands, and the output shown below it, if any.
BLOCKS = re.findall(r"^```sh\n(.*?)^```\n(?:```(?:json)?\n(.*?)^```\n)?", SESSION, re.MULTILINE | re.DOTALL)

# What is another one each time: new codes (the demo's are not), moments, the day of writing, ids of households.
VARYING = [
    (r"(?<!\d)(?!103183132)\d{9}(?!\d)", r"\\d{9}"),
    (r"\d{4}\\-\d\d\\-\d\dT[\d:]+(?:\\\.\d+)?Z", r"[-\\dT:.]+Z"),
    (r"2026\\-11\\-24", r"[-\\d]{10}"),
    (r"[0-9a-f]{8}(?:\\-[0-9a-f]{4}){3}\\-[0-9a-f]{12}", r"[-0-9a-f]{36}"),
    ("…", ".+?"),
]

pytestmark = pytest.mark.skipif(not shutil.which("curl"), reason="the session is made of curl commands")


def squeezed(text: str) -> str:
    """Without white space, for the README breaks long lines."""
    return re.sub(r"\s+", "", text)


def pattern(shown: str) -> str:
    expression = re.escape(squeezed(shown))
    for varying, anything in VARYING:
        expression = re.sub(varying, anything, expression)
    return expression


@pytest.fixture
def environment(own_database: str) -> dict[str, str]:
    """As ``./dev up`` sets it, on a database and a port of this test."""
    with socket.create_server(("127.0.0.1", 0)) as probe, socket.create_server(("127.0.0.1", 0)) as another:
        port, practice = probe.getsockname()[1], another.getsockname()[1]
    inherited = {
        name: text for name, text in os.environ.items() if name != "REDIS_URL" and not name.startswith("BKAPP")
    }
    return inherited | {
        "DATABASE_URL": own_database,
        "BKAPP_DEMO": "1",
        "BKAPP_PORT": str(port),
        "BKAPP_PRACTICE_PORT": str(practice),
        "BKAPP_BASE_URL": f"http://localhost:{port}",
        "PYTHONPATH": str(ROOT / "src"),
    }


@pytest.fixture
def address(environment: dict[str, str], tmp_path: Path) -> Iterator[str]:
    """The address of a server with the demo of ``./dev up``."""
    bkapp = [sys.executable, "-m", "bkapp"]
    for made in (["seed", "--households", "500"], ["people"]):
        subprocess.run([*bkapp, "demo", *made], env=environment, check=True)
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen([*bkapp, "serve"], env=environment, stdout=log) as server,
        subprocess.Popen([*bkapp, "practice"], env=environment, stdout=log) as practice,
    ):
        end = time.monotonic() + 30
        for path, variable in (("/readyz", "BKAPP_PORT"), ("/healthz", "BKAPP_PRACTICE_PORT")):
            while time.monotonic() < end and not answers(int(environment[variable]), path):
                time.sleep(0.1)
        yield environment["BKAPP_BASE_URL"]
        server.terminate()
        practice.terminate()


def answers(port: int, path: str) -> bool:
    connection = HTTPConnection("localhost", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


@pytest.mark.slow
def test_every_command_works_in_order_and_answers_as_shown(
    address: str, environment: dict[str, str], tmp_path: Path
) -> None:
    script = "".join(f'\n{commands}echo "@{number} $?"\n' for number, (commands, _) in enumerate(BLOCKS))
    script = script.replace("http://localhost:8000", address).replace("./dev bkapp", f"{sys.executable} -m bkapp")

    ran = subprocess.run(
        ["sh"],
        input=script,
        env=environment,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
        timeout=60,
    )

    told = re.split(r"@\d+ (\d+)\n", ran.stdout)
    outputs, codes = told[:-1:2], told[1::2]
    assert len(BLOCKS) == len(outputs) >= 15
    for (commands, shown), output, code in zip(BLOCKS, outputs, codes, strict=True):
        refused = "refused" in shown and "0 refused" not in shown
        assert code == ("1" if refused else "0"), commands + output
        expected = pattern(shown.replace("http://localhost:8000", address))
        assert re.fullmatch(expected, squeezed(output), re.DOTALL), f"{commands}\nanswers\n{output}\nnot\n{shown}"
    assert not list(tmp_path.glob("bien.*"))
    assert_a_copy_can_be_kept(address)


def assert_a_copy_can_be_kept(address: str) -> None:
    """By the consumer as the handbook has it: 500 demo addresses, one that was proposed and four that were imported."""
    consumer = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/registry.md").read_text(), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec("".join(consumer), names)  # noqa: S102  (it is ours, and shown to be pasted)
    copy: dict[str, Any] = {"seq": 0, "addresses": {}}

    names["follow"](address, copy)

    assert copy["seq"] == 507
    assert len(copy["addresses"]) == 505
    assert {data["status"] for data in copy["addresses"].values()} == {"current"}


def test_the_session_shows_an_answer_below_nearly_every_block() -> None:
    assert sum(not shown for _, shown in BLOCKS) <= 1
