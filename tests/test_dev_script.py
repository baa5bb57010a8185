"""``./dev``: what a newcomer types first has to work and to say what is wrong."""

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = [ROOT / "dev", *sorted((ROOT / "tools/dev").glob("*.sh"))]

Run = Callable[..., subprocess.CompletedProcess[str]]

made_by_dev = pytest.mark.skipif(
    not (ROOT / ".venv/.bkapp").exists() or not Path("/usr/lib/postgresql").exists(),
    reason="starts servers, so it needs a machine that ./dev has prepared",
)


@pytest.fixture
def ports() -> tuple[int, int]:
    """Where the site and the practice eID are served."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        return one.getsockname()[1], other.getsockname()[1]


@pytest.fixture
def port(ports: tuple[int, int]) -> int:
    return ports[0]


@pytest.fixture
def dev(tmp_path: Path, ports: tuple[int, int]) -> Iterator[Run]:
    """Runs ``./dev`` with a state and ports of this test."""
    private = {
        name: text
        for name, text in os.environ.items()
        if name not in {"DATABASE_URL", "REDIS_URL"} and not name.startswith("BKAPP_")
    } | {
        "BKAPP_STATE": str(tmp_path / "state"),
        "BKAPP_PORT": str(ports[0]),
        "BKAPP_PRACTICE_PORT": str(ports[1]),
        "BKAPP_DEMO_HOUSEHOLDS": "20",
    }

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        # The pipes close only when nothing that was started holds them: `up -d | tee log` has to end.
        return subprocess.run(
            [ROOT / "dev", *arguments],
            env=private | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    yield run
    run("reset")


def is_running(process: str) -> bool:
    """Whether a process file of ``./dev`` (number, start time) names a process that still runs."""
    number, began = process.split()
    try:
        fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return False
    return fields[0] != "Z" and fields[19] == began


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
@pytest.mark.parametrize("shell", ["sh", "dash"])
def test_the_scripts_are_posix_shell(script: Path, shell: str) -> None:
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    subprocess.run([shell, "-n", script], check=True)


def test_shellcheck_has_nothing_to_say() -> None:
    if not shutil.which("shellcheck"):
        pytest.skip("shellcheck is not installed")
    found = subprocess.run(["shellcheck", "-x", "dev"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.stdout == ""


@pytest.mark.parametrize(("needs", "found"), [("browser", "chromium "), ("browser peers", "chromium "), ("redis", "")])
def test_a_browser_is_installed_for_tests_alone(tmp_path: Path, needs: str, found: str) -> None:
    if "ubuntu" in Path("/etc/os-release").read_text():
        pytest.skip("Ubuntu has no package of Chromium")
    for program in ("grep", "python3"):
        (tmp_path / program).symlink_to(shutil.which(program) or program)
    (tmp_path / "redis-server").touch(mode=0o755)

    told = subprocess.run(
        ["/bin/sh", "-c", '. tools/dev/machine.sh; missing_packages "$1"', "sh", needs],
        cwd=ROOT,
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert told.stdout == found


def test_help_names_every_command(dev: Run) -> None:
    told = dev("help")

    commands = set(re.findall(r"^  ([a-z]+) .*  ", told.stdout, re.MULTILINE))
    cases = re.findall(r"^    ([a-z |-]+)\) ", (ROOT / "dev").read_text().rpartition("case $command")[2], re.MULTILINE)
    dispatched = {name.strip() for names in cases for name in names.split("|")}
    assert told.returncode == 0
    assert dispatched - {"-h", "--help", "apt-install"} == commands


@pytest.mark.parametrize("arguments", [["no-such-command"], ["up", "--sideways"]])
def test_what_it_does_not_understand_ends_with_the_help_and_2(dev: Run, arguments: list[str]) -> None:
    refused = dev(*arguments)

    assert refused.returncode == 2
    assert refused.stdout == ""
    assert "./dev COMMAND" in refused.stderr


def test_down_and_reset_are_harmless_when_nothing_was_started(dev: Run) -> None:
    assert dev("down").returncode == 0
    assert dev("reset").returncode == 0


def test_reset_never_deletes_a_given_database(dev: Run) -> None:
    refused = dev("reset", DATABASE_URL="postgresql://somewhere/else")

    assert refused.returncode == 1
    assert "DATABASE_URL" in refused.stderr


def test_a_stale_file_never_stops_a_stranger(dev: Run, tmp_path: Path) -> None:
    run = tmp_path / "state/run"
    run.mkdir(parents=True)
    with subprocess.Popen(["sleep", "60"]) as stranger:
        (run / "api.pid").write_text(f"{stranger.pid} 1\n")

        assert dev("down").returncode == 0

        assert stranger.poll() is None
        assert not (run / "api.pid").exists()
        stranger.kill()


@made_by_dev
def test_a_port_in_use_is_said_in_a_sentence(dev: Run, port: int) -> None:
    with socket.create_server(("127.0.0.1", port)):
        refused = dev("up")

    assert refused.returncode == 1
    assert refused.stderr.splitlines() == [
        f"bkapp: port {port} is in use by another program: stop that, or choose another with BKAPP_PORT"
    ]


@made_by_dev
def test_so_is_a_port_in_use_where_the_practice_eid_would_be(dev: Run, ports: tuple[int, int]) -> None:
    with socket.create_server(("127.0.0.1", ports[1])):
        refused = dev("up")

    assert refused.returncode == 1
    assert f"port {ports[1]} is in use by another program" in refused.stderr
    assert "BKAPP_PRACTICE_PORT" in refused.stderr
    assert "Traceback" not in refused.stderr


@made_by_dev
@pytest.mark.slow
def test_up_serves_again_within_seconds_and_down_leaves_nothing(dev: Run, tmp_path: Path, port: int) -> None:
    first = dev("up", "-d")
    assert first.returncode == 0, first.stderr
    assert first.stdout.splitlines()[-1].startswith(f"bkapp: http://localhost:{port} ")
    assert dev("up", "-d").stdout.startswith(f"bkapp: http://localhost:{port} is already running")
    processes = [file.read_text() for file in (tmp_path / "state/run").glob("*.pid")]
    sockets = Path((tmp_path / "state/sockets").read_text().strip())
    assert len(processes) == 4
    assert all(is_running(process) for process in processes)

    # Without the practice eID nobody could sign in.
    practice = (tmp_path / "state/run/practice.pid").read_text()
    os.kill(int(practice.split()[0]), signal.SIGTERM)
    for _ in range(100):
        if not is_running(practice):
            break
        time.sleep(0.1)
    assert dev("up", "-d").stdout.startswith(f"bkapp: http://localhost:{port}  (stop")
    processes += [file.read_text() for file in (tmp_path / "state/run").glob("*.pid")]
    assert dev("down").returncode == 0

    began = time.monotonic()
    assert dev("up", "-d").returncode == 0
    assert time.monotonic() - began < 20
    connection = HTTPConnection("localhost", port, timeout=10)
    connection.request("GET", "/readyz")
    assert connection.getresponse().status == 200
    connection.close()
    processes += [file.read_text() for file in (tmp_path / "state/run").glob("*.pid")]

    assert dev("down").returncode == 0
    assert not any(is_running(process) for process in processes)
    assert not sockets.exists()
    assert not list((tmp_path / "state/run").iterdir())
