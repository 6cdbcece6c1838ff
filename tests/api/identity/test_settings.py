"""Settings of users: what production needs and refuses, and what no environment takes."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from api.identity.settings import DEVELOPMENT, IdentitySettings, one_database
from compute.errors import InvalidInput

KEK = base64.b64encode(b"k" * 32).decode()
OTHER = base64.b64encode(b"o" * 32).decode()
GOOD = {
    "TELEGRAM_BOT_TOKEN": "123456:planted-bot-token",
    "IDENTITY_JWT_SECRET": "a planted secret of more than 32 bytes",
    "IDENTITY_2FA_KEK_B64": KEK,
    "IDENTITY_EXCHANGE_KEYS_KEK_B64": OTHER,
    "IDENTITY_PG_DSN": "postgresql://u:planted-password@h/d",
}
SECRETS = [name for name in GOOD if name != "IDENTITY_PG_DSN"]


def made(environment: Any = "prod", **changes: str | None) -> IdentitySettings:
    environ = {name: value for name, value in {**GOOD, **changes}.items() if value is not None}
    return IdentitySettings.from_environment(environ, environment)


def refused(environment: Any = "prod", **changes: str | None) -> str:
    with pytest.raises(InvalidInput) as caught:
        made(environment, **changes)
    for value in {*GOOD.values(), *(v for v in changes.values() if v and len(v) > 8)}:
        assert value not in caught.value.message
    return caught.value.message


def test_production() -> None:
    found = made()
    assert found.bot_token == GOOD["TELEGRAM_BOT_TOKEN"]
    assert found.jwt.current.value == GOOD["IDENTITY_JWT_SECRET"].encode()
    assert found.two_factor.current.value == b"k" * 32
    assert found.cookie_secure
    assert (found.cookie_name, found.cookie_path) == ("roehub_identity_jwt", "/")
    assert (found.cookie_samesite, found.jwt_ttl_days, found.idle_hours) == ("lax", 7, 24)
    for value in GOOD.values():
        assert value not in repr(found)


@pytest.mark.parametrize("name", list(GOOD))
@pytest.mark.parametrize("value", [None, "  "])
def test_production_does_not_start_without(name: str, value: str | None) -> None:
    assert refused(**{name: value}).startswith(f"{name} is not set")


def test_either_name_of_the_database_does() -> None:
    assert made(IDENTITY_PG_DSN=None, STRATEGY_PG_DSN=GOOD["IDENTITY_PG_DSN"]).cookie_secure


def test_the_first_that_is_missing_is_told() -> None:
    none: dict[str, Any] = dict.fromkeys(GOOD)
    for name in GOOD:
        assert refused(**none).startswith(name)
        none[name] = GOOD[name]


@pytest.mark.parametrize("name", [*SECRETS, *(f"{name}_PREVIOUS" for name in SECRETS[1:])])
def test_production_takes_no_development_value(name: str) -> None:
    for value in DEVELOPMENT.values():
        assert "is the development value" in refused(**{name: value})


@pytest.mark.parametrize("name", SECRETS[2:])
def test_another_text_of_a_development_key_is_none(name: str) -> None:
    """The last character before the padding has bits that say nothing."""
    known = DEVELOPMENT[name]
    same = known[:-2] + chr(ord(known[-2]) + 1) + "="
    assert base64.b64decode(same, validate=True) == base64.b64decode(known)
    assert "is not base64" in refused(**{name: same})


def test_fail_fast_holds_elsewhere_too_and_cannot_be_off_in_production() -> None:
    assert "is not set" in refused("dev", IDENTITY_FAIL_FAST="YES", TELEGRAM_BOT_TOKEN=None)
    assert "cannot be off" in refused(IDENTITY_FAIL_FAST="no")
    assert "cannot be off" in refused(IDENTITY_COOKIE_SECURE="0")


@pytest.mark.parametrize("environment", ["dev", "test"])
def test_development_starts_with_nothing(environment: str) -> None:
    found = IdentitySettings.from_environment({}, environment)
    assert not found.cookie_secure
    assert found.two_factor.current.value != found.exchange_keys.current.value
    assert IdentitySettings.from_environment({"IDENTITY_FAIL_FAST": " "}, environment) == found


@pytest.mark.parametrize("environment", ["dev", "test", "prod"])
@pytest.mark.parametrize(
    "name", ["IDENTITY_2FA_KEK_B64", "IDENTITY_EXCHANGE_KEYS_KEK_B64_PREVIOUS"]
)
def test_a_key_of_another_form_is_refused_everywhere(environment: str, name: str) -> None:
    assert "not base64" in refused(environment, **{name: "not*base64!"})
    for size in (0, 15, 31, 33):
        text = base64.b64encode(b"p" * size).decode() or "===="
        assert name in refused(environment, **{name: text})
    for size in (16, 24, 32):
        made(environment, **{name: base64.b64encode(b"p" * size).decode()})


def test_the_two_keks_differ() -> None:
    assert "must be different" in refused("dev", IDENTITY_2FA_KEK_B64=OTHER)
    assert "must be different" in refused(IDENTITY_2FA_KEK_B64_PREVIOUS=OTHER)


def test_a_short_jwt_secret() -> None:
    assert "shorter than 32 bytes" in refused(IDENTITY_JWT_SECRET="short")
    assert "shorter than 32 bytes" in refused(IDENTITY_JWT_SECRET_PREVIOUS="short")


def test_rotation_keeps_the_previous_key_and_tells_them_apart() -> None:
    found = made(IDENTITY_JWT_SECRET_PREVIOUS="the secret before, of 32 bytes or more")
    assert found.jwt.previous is not None
    assert found.jwt.find(found.jwt.previous.key_id) == found.jwt.previous
    assert found.jwt.find(found.jwt.current.key_id) == found.jwt.current
    assert found.jwt.find("00000000") is None
    assert found.jwt.find(None) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("IDENTITY_FAIL_FAST", "maybe"),
        ("IDENTITY_COOKIE_SECURE", "2"),
        ("IDENTITY_COOKIE_SAMESITE", "loose"),
        ("IDENTITY_COOKIE_NAME", "a b"),
        ("IDENTITY_COOKIE_NAME", "a;b"),
        ("IDENTITY_COOKIE_NAME", "é"),
        ("IDENTITY_COOKIE_NAME", "__Host-login"),
        ("IDENTITY_COOKIE_PATH", "api"),
        ("IDENTITY_COOKIE_PATH", "/; Domain=example.com"),
        ("IDENTITY_COOKIE_SAMESITE", "none"),
        ("JWT_TTL_DAYS", "0"),
        ("JWT_TTL_DAYS", "-1"),
        ("JWT_TTL_DAYS", "1.5"),
        ("JWT_TTL_DAYS", "week"),
        ("JWT_TTL_DAYS", "²"),
        ("TELEGRAM_BOT_NAME", "@roehub_bot"),
        ("TELEGRAM_BOT_NAME", "https://t.me/roehub_bot"),
        ("IDENTITY_TRUSTED_ORIGINS", "a.example.org"),
        ("IDENTITY_TRUSTED_ORIGINS", "https://a.example.com/path"),
    ],
)
def test_values_that_cannot_be_meant(name: str, value: str) -> None:
    assert name in refused("test", **{name: value})


def test_values_that_can() -> None:
    found = made(
        JWT_TTL_DAYS="30",
        IDENTITY_COOKIE_NAME="__Host-roehub",
        IDENTITY_COOKIE_SAMESITE="NONE",
        IDENTITY_TRUSTED_ORIGINS="https://a.example.com/, https://B.example.com",
    )
    assert (found.jwt_ttl_days, found.cookie_samesite) == (30, "none")
    assert found.cookie_name == "__Host-roehub"
    assert found.trusted_origins == ("https://a.example.com", "https://b.example.com")


def test_one_database_has_users_and_jobs() -> None:
    one = "postgresql://a@h/d"
    assert one_database({"IDENTITY_PG_DSN": one})["STRATEGY_PG_DSN"] == one
    assert one_database({"IDENTITY_PG_DSN": one, "STRATEGY_PG_DSN": one})["STRATEGY_PG_DSN"] == one
    assert one_database({}) == {}
    with pytest.raises(InvalidInput, match="must be the same database"):
        one_database({"IDENTITY_PG_DSN": one, "STRATEGY_PG_DSN": "postgresql://a@h/e"})
