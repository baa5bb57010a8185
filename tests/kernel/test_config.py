"""Settings: a wrong one stops the start with a sentence that names it."""

import socket

import pytest
from click.testing import CliRunner

from bkapp.cli import listen, main
from bkapp.config import (
    DEMO_CLIENT_KEY,
    DEMO_DATA_KEYS,
    DEMO_LOOKUP_KEY,
    DEMO_SIGNING_KEYS,
    VARIABLES,
    BadSetting,
    Settings,
    describe,
    load_settings,
)

GOOD = {
    "DATABASE_URL": "postgresql://bkapp:s3cret@db/bkapp",
    "BKAPP_BASE_URL": "https://bkapp.example",
    "BKAPP_SIGNING_KEYS": "k1:" + "A" * 43,
    "BKAPP_EID_ISSUER": "https://eid.example",
    "BKAPP_DATA_KEYS": "d1:" + "B" * 42 + "A",
    "BKAPP_LOOKUP_KEY": "C" * 42 + "A",
    "BKAPP_DATA_CONTROLLER": "Ủy ban nhân dân tỉnh Thái Nguyên",
}


def test_good_settings_are_read() -> None:
    settings = load_settings({**GOOD, "BKAPP_CORS_ORIGINS": "https://a.example, https://b.example"})
    assert settings.base_url == "https://bkapp.example"
    assert settings.cors_origins == ("https://a.example", "https://b.example")
    assert not settings.demo


def test_every_field_has_a_variable() -> None:
    assert set(VARIABLES) == set(Settings.__struct_fields__)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", ""),
        ("DATABASE_URL", "mysql://x/y"),
        ("REDIS_URL", "memcached://x"),
        ("BKAPP_DEMO", "maybe"),
        ("BKAPP_BASE_URL", ""),
        ("BKAPP_BASE_URL", "bkapp.example"),
        ("BKAPP_BASE_URL", "https://[::bad"),
        ("BKAPP_BASE_URL", "https://bkapp.example:port"),
        ("BKAPP_BASE_URL", "http://bkapp.example"),
        ("BKAPP_SIGNING_KEYS", ""),
        ("BKAPP_SIGNING_KEYS", "k1:short"),
        ("BKAPP_SIGNING_KEYS", DEMO_SIGNING_KEYS),
        ("BKAPP_SIGNING_KEYS", "other" + DEMO_SIGNING_KEYS[4:]),
        ("BKAPP_SIGNING_KEYS", "a-kid-of-more-than-16:" + "A" * 43),
        ("BKAPP_SIGNING_KEYS", f"k:{'A' * 43},k:{'B' * 42}A"),
        ("BKAPP_DATA_CONTROLLER", " "),
        ("BKAPP_DATA_KEYS", ""),
        ("BKAPP_DATA_KEYS", "k1:short"),
        ("BKAPP_DATA_KEYS", DEMO_DATA_KEYS),
        ("BKAPP_DATA_KEYS", f"k:{'A' * 43},k:{'B' * 42}A"),
        ("BKAPP_LOOKUP_KEY", ""),
        ("BKAPP_LOOKUP_KEY", "short"),
        ("BKAPP_LOOKUP_KEY", DEMO_LOOKUP_KEY),
        ("BKAPP_EID_ISSUER", "http://eid.example"),
        ("BKAPP_EID_ISSUER", "https://[::bad"),
        ("BKAPP_EID_ISSUER", "https://eid.example/?a=b"),
        ("BKAPP_EID_CLIENT_KEY", "k1:short"),
        ("BKAPP_EID_CLIENT_KEY", DEMO_CLIENT_KEY),
        ("BKAPP_EID_ALGORITHMS", "none"),
        ("BKAPP_EID_ALGORITHMS", "HS256"),
        ("BKAPP_POPULATION_URL", "http://dan-cu.example"),
        ("BKAPP_NATIVE_REDIRECTS", "http://app.example"),
        ("BKAPP_NATIVE_REDIRECTS", "javascript:alert(1)"),
        ("BKAPP_NATIVE_REDIRECTS", "https://app.example/#x"),
        ("BKAPP_PRACTICE_PORT", "0"),
        ("BKAPP_PORT", "0"),
        ("BKAPP_PORT", "eighty"),
        ("BKAPP_PORT", "٨٠٠٠"),
        ("BKAPP_WEB_WORKERS", "-1"),
        ("BKAPP_RATE_LIMIT", "many"),
        ("BKAPP_RATE_LIMIT", "0/minute"),
        ("BKAPP_RATE_LIMIT", "²/minute"),
        ("DATABASE_URL", "postgresql://u@h:abc/db"),
        ("REDIS_URL", "redis://h:abc"),
        ("BKAPP_CORS_ORIGINS", "*"),
        ("BKAPP_LOG_LEVEL", "loud"),
        ("BKAPP_MAX_BODY_BYTES", "1"),
    ],
)
def test_a_wrong_setting_is_named_and_secrets_are_not_repeated(name: str, value: str) -> None:
    with pytest.raises(BadSetting, match=name) as caught:
        load_settings({**GOOD, name: value})
    assert "s3cret" not in str(caught.value)
    secret = name.endswith(("_KEYS", "_KEY"))
    assert not (secret and value and value in str(caught.value))


def test_the_demo_has_a_key_of_its_own_and_production_none() -> None:
    assert load_settings({"DATABASE_URL": GOOD["DATABASE_URL"], "BKAPP_DEMO": "1"}).signing_keys == DEMO_SIGNING_KEYS


def test_what_is_logged_of_the_settings_is_no_secret() -> None:
    secret = {name for name in VARIABLES if name.endswith(("_url", "_keys", "_key", "_secret"))} - {"base_url"}
    assert len(secret) == 9
    assert not secret & set(describe(load_settings(GOOD)))


def test_a_command_stops_with_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    result = CliRunner().invoke(main, ["migrate"])
    assert result.exit_code == 2
    assert result.stderr.startswith("bkapp: DATABASE_URL is not set")
    assert result.stderr.count("\n") == 1


def test_one_socket_takes_ipv6_and_ipv4() -> None:
    listener = listen("::", 0)
    port = listener.getsockname()[1]
    with listener:
        for family, host in ((socket.AF_INET6, "::1"), (socket.AF_INET, "127.0.0.1")):
            with socket.socket(family) as caller:
                caller.settimeout(5)
                caller.connect((host, port))
                listener.accept()[0].close()


def test_a_port_in_use_is_said_in_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with listen("127.0.0.1", 0) as listener, pytest.raises(SystemExit):
        listen("127.0.0.1", listener.getsockname()[1])
    assert "cannot listen on BKAPP_HOST=127.0.0.1 BKAPP_PORT=" in capsys.readouterr().err


def test_data_keys_are_nothing_without_the_look_up_key() -> None:
    with pytest.raises(BadSetting, match="BKAPP_LOOKUP_KEY"):
        load_settings({**GOOD, "BKAPP_EID_ISSUER": "", "BKAPP_LOOKUP_KEY": ""})
    alone = load_settings({**GOOD, "BKAPP_EID_ISSUER": "", "BKAPP_DATA_KEYS": "", "BKAPP_LOOKUP_KEY": ""})
    assert (alone.data_keys, alone.lookup_key) == ("", "")
