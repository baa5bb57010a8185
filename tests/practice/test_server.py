"""The practice servers as ``bkapp practice`` serves them."""

import httpx
import pytest

from bkapp.config import BadSetting, load_settings
from bkapp.practice.server import asgi, bkapp_as_client
from tests.practice.peers import running

DEMO = {"DATABASE_URL": "postgresql://nowhere/none", "BKAPP_DEMO": "1"}


async def test_the_demo_settings_make_both_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in DEMO.items():
        monkeypatch.setenv(name, value)
    async with running(asgi()) as url, httpx.AsyncClient(base_url=url) as client:
        home = await client.get("/")
        healthy = await client.get("/healthz")
        style = await client.get("/eid/style.css")
        found = await client.get("/eid/.well-known/openid-configuration")

    assert "MÁY CHỦ LUYỆN TẬP" in home.text
    assert "script" not in home.headers["content-security-policy"]
    assert healthy.json() == {"status": "ok"}
    assert style.headers["content-type"].startswith("text/css")
    assert found.json()["issuer"] == load_settings(DEMO).eid_issuer


def test_outside_the_demo_nothing_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bkapp.practice.server.load_settings", lambda: load_settings(DEMO | {"BKAPP_DEMO": "0"} | REAL))

    with pytest.raises(BadSetting, match="BKAPP_DEMO"):
        asgi()


REAL = {
    "BKAPP_BASE_URL": "https://bkapp.example",
    "BKAPP_SIGNING_KEYS": "a:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
}


def test_bkapp_is_known_by_its_keys_or_else_by_its_secret() -> None:
    by_keys = bkapp_as_client(load_settings(DEMO))
    by_secret = bkapp_as_client(load_settings(DEMO | {"BKAPP_EID_CLIENT_SECRET": "s3cret"}))

    assert by_keys.redirect_uris == ("http://localhost:8000/dang-nhap/ve",)
    assert (by_keys.jwks_uri, by_keys.secret) == ("http://localhost:8000/.well-known/eid-client-jwks.json", "")
    assert (by_secret.jwks_uri, by_secret.secret) == ("", "s3cret")
