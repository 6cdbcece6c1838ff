"""`roehub secrets` as an operator uses it."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine
from typer.testing import CliRunner, Result

from api.cli import app
from api.identity.envelope import TOTP, Vault, totp_binding
from api.identity.service import Identity
from api.identity.settings import IdentitySettings
from api.identity.two_factor import TwoFactor
from tests.api.identity.database import with_engine
from tests.postgres import execute, rows

USER = UUID(int=7)


def roehub(*arguments: str, **environ: str) -> Result:
    return CliRunner().invoke(app, ["secrets", *arguments], env=environ)


def generated(*arguments: str) -> dict[str, str]:
    done = roehub("generate", *arguments)
    assert done.exit_code == 0, done.stderr
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


def test_generated_secrets_are_good_for_production(tmp_path: Path) -> None:
    found = generated()
    assert [*found] == [
        "IDENTITY_JWT_SECRET", "IDENTITY_2FA_KEK_B64", "IDENTITY_EXCHANGE_KEYS_KEK_B64",
    ]  # fmt: skip
    assert len(base64.b64decode(found["IDENTITY_2FA_KEK_B64"], validate=True)) == 32
    assert not {*found.values()} & {*generated().values()}
    others = {"TELEGRAM_BOT_TOKEN": "1:x", "IDENTITY_PG_DSN": "postgresql://localhost/x"}
    IdentitySettings.from_environment(found | others, "prod")


def test_a_file_of_secrets_is_its_owners_alone_and_never_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "roehub.env"
    done = roehub("generate", "--out", str(file))
    assert (done.exit_code, done.stdout) == (0, "")
    assert file.stat().st_mode & 0o777 == 0o600
    before = file.read_bytes()
    again = roehub("generate", "--out", str(file))
    assert again.exit_code == 2
    assert "is there already" in again.stderr
    assert file.read_bytes() == before


def test_rotation_by_environment(database: str) -> None:
    execute(
        database,
        "INSERT INTO identity_users (user_id, telegram_user_id, created_at) "
        f"VALUES ('{USER}', 1, now())",
    )
    old, new = generated(), generated()
    name = "IDENTITY_2FA_KEK_B64"
    environ = {"STRATEGY_PG_DSN": database, "ROEHUB_ENV": "test"}

    def settings(found: dict[str, str]) -> IdentitySettings:
        return IdentitySettings.from_environment(found, "test")

    async def filled(engine: AsyncEngine) -> None:
        await TwoFactor(Identity(engine, settings(old), lambda: 0)).setup(USER)

    with_engine(database, filled)
    lost = roehub("rotate", **environ, **new)
    assert lost.exit_code == 1
    assert "identity_2fa.totp_secret_enc: 0 under the new key, 0 before, 1 unread" in lost.stdout
    assert "keep all keys" in lost.stdout

    both = new | {f"{one}_PREVIOUS": old[one] for one in new}
    done = roehub("rotate", "--json", "--batch", "1", **environ, **both)
    assert done.exit_code == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["complete"]
    assert record["columns"]["identity_2fa.totp_secret_enc"]["rewrapped"] == 1
    ((blob,),) = rows(database, "SELECT totp_secret_enc FROM identity_2fa")
    secret = Vault(TOTP, settings(new).two_factor).open(blob, totp_binding(USER))  # type: ignore[arg-type]
    said = done.stdout + done.stderr + lost.stdout + lost.stderr
    assert secret not in said
    assert new[name] not in said
    assert old[name] not in said
    assert "no longer needed" in roehub("rotate", **environ, **new).stdout
