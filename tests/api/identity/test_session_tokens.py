"""Session tokens: ours are read, everything else is refused with the code of what is wrong."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import jwt
import pytest

from api.errors import Unauthorized
from api.identity.session_tokens import decoded, encoded
from api.identity.settings import Key, KeyRing

USER = UUID("00000000-0000-0000-0000-00000000000a")
SESSION = UUID("00000000-0000-0000-0000-0000000000aa")
OLD, NEW = (
    Key(b"the old secret" * 5),
    Key(b"the new secret" * 5),
)
RING = KeyRing(NEW, OLD)
NOW = int(datetime.now(UTC).timestamp())
CLAIMS = {
    "sub": str(USER),
    "paid_level": "free",
    "iat": NOW,
    "exp": NOW + 3600,
    "jti": str(SESSION),
}


def token(key: Key = NEW, headers: dict[str, Any] | None = None, **changes: Any) -> str:
    claims = {name: value for name, value in {**CLAIMS, **changes}.items() if value is not None}
    kept = {"kid": key.key_id, **(headers or {})}
    return jwt.encode(claims, key.value, algorithm="HS256", headers=kept)


def code(text: str, ring: KeyRing = RING) -> str:
    with pytest.raises(Unauthorized) as caught:
        decoded(ring, text)
    assert len(text) < 9 or text not in caught.value.message
    return caught.value.details["error"]


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def test_a_token_names_its_session() -> None:
    start = datetime.now(UTC)
    made = encoded(
        RING, user_id=USER, session_id=SESSION, paid_level="pro", issued_at=start,
        expires_at=start + timedelta(days=7),
    )  # fmt: skip
    assert jwt.get_unverified_header(made) == {
        "alg": "HS256", "typ": "JWT", "kid": NEW.key_id,
    }  # fmt: skip
    claims = jwt.decode(made, NEW.value, algorithms=["HS256"])
    assert claims.keys() == {"sub", "paid_level", "iat", "exp", "jti"}
    assert claims["exp"] - claims["iat"] == 604_800
    found = decoded(RING, f" {made} ")
    assert (found.user_id, found.session_id) == (USER, SESSION)


def test_a_rotated_secret_is_read_until_it_is_dropped() -> None:
    assert decoded(RING, token(OLD)).session_id == SESSION
    assert code(token(OLD), KeyRing(NEW)) == "invalid_signature"
    assert len({OLD.key_id, NEW.key_id}) == 2
    assert "secret" not in repr(RING)


@pytest.mark.parametrize(
    "text", ["", "a", "a.b", "a.b.c.d", "..", "é.é.é", "a.b.c", f"{part([])}.{part({})}.AA"]
)
def test_what_is_no_token(text: str) -> None:
    assert code(text) == "invalid_token_format"


def test_a_payload_that_is_no_object() -> None:
    head, _, tail = token().split(".")
    assert code(f"{head}.{part([1])}.{tail}") == "invalid_token_format"


def test_foreign_algorithms_and_types() -> None:
    head, body, tail = token().split(".")
    kid = NEW.key_id
    for header in (
        {"alg": "none", "typ": "JWT", "kid": kid},
        {"alg": "HS512", "typ": "JWT", "kid": kid},
        {"alg": "RS256", "typ": "JWT", "kid": kid},
        {"alg": "HS256", "typ": "at+jwt", "kid": kid},
        {"alg": "HS256", "kid": kid},
        {"typ": "JWT", "kid": kid},
    ):
        assert code(f"{part(header)}.{body}.{tail}") == "invalid_header"
        assert code(f"{part(header)}.{body}.") == "invalid_header"
    strong = jwt.encode(CLAIMS, NEW.value, algorithm="HS512", headers={"kid": kid})
    assert code(strong) == "invalid_header"
    assert code(f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{body}.{tail}") == "invalid_signature"
    assert head


def test_tampered_tokens() -> None:
    head, body, tail = token().split(".")
    other = part({**CLAIMS, "sub": "00000000-0000-0000-0000-00000000000b"})
    assert code(f"{head}.{other}.{tail}") == "invalid_signature"
    assert code(f"{head}.{body}.{tail[:-4]}AAAA") == "invalid_signature"
    assert code(f"{head}.{body}.") == "invalid_signature"
    assert code(token(Key(b"x" * 40), {"kid": NEW.key_id})) == "invalid_signature"


@pytest.mark.parametrize(
    "changes",
    [
        *({name: None} for name in CLAIMS),
        {"sub": "ann"},
        {"sub": 7},
        {"jti": "one"},
        {"paid_level": "gold"},
        {"paid_level": ["free"]},
        {"iat": "now"},
        {"iat": True},
        {"exp": "later"},
        {"exp": NOW + 0.5 + 3600},
        {"exp": str(NOW + 3600)},
        {"exp": True},
    ],
)
def test_claims_that_are_missing_or_wrong(changes: dict[str, Any]) -> None:
    found = code(_raw(changes))
    assert found == ("expired_token" if changes.get("exp") is True else "invalid_claims")


def _raw(changes: dict[str, Any]) -> str:
    """A signed token that PyJWT itself would not make."""
    claims = {name: value for name, value in {**CLAIMS, **changes}.items() if value is not None}
    return jwt.api_jws.encode(
        json.dumps(claims).encode(), NEW.value, algorithm="HS256", headers={"kid": NEW.key_id}
    )


@pytest.mark.parametrize("age", [0, 1, 604_800])
def test_an_expired_token(age: int) -> None:
    assert code(token(exp=NOW - age)) == "expired_token"


def test_a_clock_that_is_ahead_in_the_database_does_no_harm() -> None:
    assert decoded(RING, token(iat=NOW + 120)).user_id == USER
