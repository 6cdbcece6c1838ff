"""Settings of users: secrets with their ids, cookie, life of a login; all from the environment."""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, Self, cast

from compute.errors import InvalidInput

SameSite = Literal["lax", "strict", "none"]

PRODUCTION: Final = "prod"
BOT_TOKEN: Final = "TELEGRAM_BOT_TOKEN"
BOT_NAME: Final = "TELEGRAM_BOT_NAME"
JWT_SECRET: Final = "IDENTITY_JWT_SECRET"
TWO_FACTOR_KEK: Final = "IDENTITY_2FA_KEK_B64"
EXCHANGE_KEYS_KEK: Final = "IDENTITY_EXCHANGE_KEYS_KEK_B64"
PREVIOUS: Final = "_PREVIOUS"
DSN_NAMES: Final = ("IDENTITY_PG_DSN", "STRATEGY_PG_DSN")
# Known to everybody who reads this: they protect nothing, and production refuses them.
DEVELOPMENT: Final = {
    BOT_TOKEN: "1:development-bot-token-of-nobody",
    JWT_SECRET: "development-jwt-secret-known-to-everybody",
    TWO_FACTOR_KEK: base64.b64encode(b"development 2FA KEK, not secret!").decode(),
    EXCHANGE_KEYS_KEK: base64.b64encode(b"development key KEK, not secret!").decode(),
}
SHORTEST_JWT_SECRET: Final = 32
"""Bytes; HS256 is as strong as its hash with no fewer (RFC 7518, 3.2)."""

JWT_TTL_DAYS: Final = 7
STEP_UP_MINUTES: Final = 10
_KEK_BYTES: Final = (16, 24, 32)
_COOKIE_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_COOKIE_PATH: Final = re.compile(r"/[!-:<-~]*")
_BOT_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{4,31}")
_TRUE: Final = ("1", "true", "yes", "on")
_FALSE: Final = ("0", "false", "no", "off")


@dataclass(frozen=True, slots=True)
class Key:
    """A secret, and the id that what was made with it carries: 8 hexadecimal digits.

    The id follows from the secret, so there is none to configure or to mix up.
    """

    value: bytes = field(repr=False)

    @property
    def key_id(self) -> str:
        """The id."""
        return hmac.digest(self.value, b"roehub.identity.key-id.v1", "sha256")[:4].hex()


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The key that is used, and the one before, with which things can still be read."""

    current: Key
    previous: Key | None = None

    def __iter__(self) -> Iterator[Key]:
        yield self.current
        if self.previous is not None:
            yield self.previous

    def find(self, key_id: object) -> Key | None:
        """The key of an id."""
        return next((key for key in self if key.key_id == key_id), None)


@dataclass(frozen=True, slots=True)
class IdentitySettings:
    """Everything that logins, sessions and encryption are set by.

    `bot_name` is that of `bot_token`, for the login widget; without it there is no widget.
    For `step_up_minutes` after a code of the second factor a session may do what needs a fresh one.
    `trusted_origins` are web pages of other addresses that may use a login's cookie,
    `scheme://host[:port]` each.
    """

    environment: str
    bot_token: str = field(repr=False)
    jwt: KeyRing
    two_factor: KeyRing
    exchange_keys: KeyRing
    jwt_ttl_days: int = JWT_TTL_DAYS
    idle_hours: int = 24
    step_up_minutes: int = STEP_UP_MINUTES
    cookie_name: str = "roehub_identity_jwt"
    cookie_path: str = "/"
    cookie_samesite: SameSite = "lax"
    cookie_secure: bool = False
    trusted_origins: tuple[str, ...] = ()
    bot_name: str | None = None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], environment: str) -> Self:
        """What the variables say; a blank one counts as not set.

        Production needs every secret and a database of its own, and takes no development value;
        so does any environment with IDENTITY_FAIL_FAST.

        Raises: InvalidInput; the message names the variable, never its value.
        """
        given = {name: value.strip() for name, value in environ.items() if value.strip()}
        production = environment == PRODUCTION
        strict = _boolean(given, "IDENTITY_FAIL_FAST", production)
        secure = _boolean(given, "IDENTITY_COOKIE_SECURE", production)
        if production and not (strict and secure):
            name = "IDENTITY_COOKIE_SECURE" if strict else "IDENTITY_FAIL_FAST"
            raise InvalidInput(f"{name} cannot be off with ROEHUB_ENV=prod; unset it")
        secrets = {name: _secret(given, name, strict) for name in DEVELOPMENT}
        two_factor = _keks(given, TWO_FACTOR_KEK, secrets[TWO_FACTOR_KEK], strict)
        exchange_keys = _keks(given, EXCHANGE_KEYS_KEK, secrets[EXCHANGE_KEYS_KEK], strict)
        if {key.value for key in two_factor} & {key.value for key in exchange_keys}:
            raise InvalidInput(f"{TWO_FACTOR_KEK} and {EXCHANGE_KEYS_KEK} must be different keys")
        if strict:
            _check_dsn(given)
        samesite = given.get("IDENTITY_COOKIE_SAMESITE", "lax").lower()
        if samesite not in ("lax", "strict", "none") or (samesite == "none" and not secure):
            raise InvalidInput(
                "IDENTITY_COOKIE_SAMESITE must be lax, strict, or none with IDENTITY_COOKIE_SECURE"
            )
        cookie_name, cookie_path = _cookie(given, secure)
        return cls(
            environment=environment,
            bot_token=secrets[BOT_TOKEN],
            jwt=_jwt_secrets(given, secrets[JWT_SECRET], strict),
            two_factor=two_factor,
            exchange_keys=exchange_keys,
            jwt_ttl_days=_positive(given, "JWT_TTL_DAYS", JWT_TTL_DAYS),
            step_up_minutes=_positive(given, "IDENTITY_STEP_UP_MINUTES", STEP_UP_MINUTES),
            cookie_name=cookie_name,
            cookie_path=cookie_path,
            cookie_samesite=cast(SameSite, samesite),
            cookie_secure=secure,
            trusted_origins=_origins(given),
            bot_name=_bot_name(given),
        )


def _secret(given: Mapping[str, str], name: str, strict: bool) -> str:
    value = given.get(name)
    if value is None:
        if strict:
            raise InvalidInput(f"{name} is not set; the service does not start without it")
        return DEVELOPMENT[name]
    if strict and value in DEVELOPMENT.values():
        raise InvalidInput(f"{name} is the development value, which everybody knows; make your own")
    return value


def _jwt_secrets(given: Mapping[str, str], current: str, strict: bool) -> KeyRing:
    previous = None
    if JWT_SECRET + PREVIOUS in given:
        previous = given[JWT_SECRET + PREVIOUS]
        _refuse_development(JWT_SECRET + PREVIOUS, previous, strict)
    for name, value in ((JWT_SECRET, current), (JWT_SECRET + PREVIOUS, previous)):
        if strict and value is not None and len(value.encode()) < SHORTEST_JWT_SECRET:
            raise InvalidInput(f"{name} is shorter than {SHORTEST_JWT_SECRET} bytes")
    return KeyRing(Key(current.encode()), None if previous is None else Key(previous.encode()))


def _keks(given: Mapping[str, str], name: str, current: str, strict: bool) -> KeyRing:
    previous = given.get(name + PREVIOUS)
    if previous is None:
        return KeyRing(_kek(name, current))
    _refuse_development(name + PREVIOUS, previous, strict)
    return KeyRing(_kek(name, current), _kek(name + PREVIOUS, previous))


def _refuse_development(name: str, value: str, strict: bool) -> None:
    if strict and value in DEVELOPMENT.values():
        raise InvalidInput(f"{name} is the development value, which everybody knows; unset it")


def _kek(name: str, text: str) -> Key:
    try:
        value = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInput(f"{name} is not base64") from None
    if base64.b64encode(value).decode() != text:  # the same key, written as what is not compared
        raise InvalidInput(f"{name} is not base64: its last character has bits to spare")
    if len(value) not in _KEK_BYTES:
        raise InvalidInput(f"{name} must be base64 of 16, 24 or 32 bytes, it is of {len(value)}")
    return Key(value)


def _cookie(given: Mapping[str, str], secure: bool) -> tuple[str, str]:
    """(name, path) of the cookie, which browsers take. Raises: InvalidInput."""
    name = given.get("IDENTITY_COOKIE_NAME", "roehub_identity_jwt")
    path = given.get("IDENTITY_COOKIE_PATH", "/")
    if not _COOKIE_NAME.fullmatch(name):
        raise InvalidInput("IDENTITY_COOKIE_NAME must be letters, digits, - and _")
    if not _COOKIE_PATH.fullmatch(path):
        raise InvalidInput("IDENTITY_COOKIE_PATH must begin with / and have no blank or semicolon")
    if name.startswith(("__Host-", "__Secure-")) and not secure:
        raise InvalidInput(f"{name[:9]} in IDENTITY_COOKIE_NAME needs IDENTITY_COOKIE_SECURE")
    if name.startswith("__Host-") and path != "/":
        raise InvalidInput("__Host- in IDENTITY_COOKIE_NAME needs the path /")
    return name, path


def one_database(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment in which users are in the database that jobs are in.

    One transaction erases a user with all that is his, so there is one database; either name of it
    does. Raises: InvalidInput when the two differ.
    """
    users, jobs = (environ.get(name, "").strip() for name in DSN_NAMES)
    if users and jobs and users != jobs:
        raise InvalidInput(f"{DSN_NAMES[0]} and {DSN_NAMES[1]} must be the same database")
    return {**environ, DSN_NAMES[1]: users} if users and not jobs else dict(environ)


def _check_dsn(given: Mapping[str, str]) -> None:
    if not any(name in given for name in DSN_NAMES):
        raise InvalidInput(
            f"{DSN_NAMES[0]} is not set; the service does not start without a database server"
        )


def _boolean(given: Mapping[str, str], name: str, default: bool) -> bool:
    value = given.get(name)
    if value is None:
        return default
    if value.lower() not in _TRUE + _FALSE:
        raise InvalidInput(f"{name} must be one of {', '.join(_TRUE + _FALSE)}")
    return value.lower() in _TRUE


def _positive(given: Mapping[str, str], name: str, default: int) -> int:
    value = given.get(name, str(default))
    if not (value.isascii() and value.isdigit() and 0 < int(value) <= 36_500):
        raise InvalidInput(f"{name} must be an integer > 0")
    return int(value)


def _bot_name(given: Mapping[str, str]) -> str | None:
    name = given.get(BOT_NAME)
    if name is not None and not _BOT_NAME.fullmatch(name):
        raise InvalidInput(
            f"{BOT_NAME} must be the bot's username as t.me/NAME has it, without @: 5 to 32"
            " letters, digits and _"
        )
    return name


def _origins(given: Mapping[str, str]) -> tuple[str, ...]:
    listed = given.get("IDENTITY_TRUSTED_ORIGINS", "").split(",")
    found = tuple(origin.strip().rstrip("/").lower() for origin in listed if origin.strip())
    for origin in found:
        if not origin.startswith(("https://", "http://")) or origin.count("/") != 2:
            raise InvalidInput("IDENTITY_TRUSTED_ORIGINS must be like https://app.example.com")
    return found
