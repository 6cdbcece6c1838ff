"""The embedded Valkey: started once a directory, shared, taken over, ended by its owner."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from compute.errors import InvalidInput
from ingest.stores.valkey import RedisSettings, open_valkey, socket_path


def pid_of(client: Any) -> int:
    return int(client.info("server")["process_id"])


def test_it_is_shared_persists_and_ends_with_its_owner(tmp_path: Path) -> None:
    settings = RedisSettings(path=tmp_path / "valkey")
    with open_valkey(settings) as owner:
        assert owner.owner
        client = owner.blocking_client()
        client.xadd("stream", {"a": "1"}, id="5-0")
        with open_valkey(settings) as guest:
            assert not guest.owner
            assert pid_of(guest.blocking_client()) == pid_of(client)
        assert client.ping()  # a guest ends nothing
        pid = pid_of(client)
        socket = socket_path(tmp_path / "valkey")
        assert socket.stat().st_mode & 0o077 == 0
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with open_valkey(settings) as again:
        assert again.blocking_client().xlen("stream") == 1


def test_one_left_by_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    program = (
        "import sys, signal, os\n"
        "from pathlib import Path\n"
        "from ingest.stores.valkey import RedisSettings, open_valkey\n"
        "opened = open_valkey(RedisSettings(path=Path(sys.argv[1])))\n"
        "opened.blocking_client().set('kept', 'yes')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "valkey")],
        cwd=Path(__file__).parents[3], timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL
    with open_valkey(RedisSettings(path=tmp_path / "valkey")) as opened:
        client = opened.blocking_client()
        assert client.get("kept") == "yes"
        pid = pid_of(client)
        assert opened.owner
    assert not _alive(pid)


def _alive(pid: int) -> bool:
    """Whether a process runs; one that nobody waits for is none."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text("ascii").rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


def test_a_long_path_gets_a_short_socket(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 120)
    assert len(os.fsencode(socket_path(path))) <= 100
    assert socket_path(path) == socket_path(path)
    assert socket_path(path) != socket_path(tmp_path / ("y" * 120))


def test_the_async_client_tries_once(tmp_path: Path) -> None:
    settings = RedisSettings(host="127.0.0.1", port=1, connect_timeout_s=1.0)

    async def story() -> str:
        with open_valkey(settings) as opened:  # a server that is down is no error yet
            client = opened.client()
            try:
                await client.ping()
            except Exception as error:
                return type(error).__name__
            finally:
                await client.aclose()
        return "answered"

    assert asyncio.run(story()) == "ConnectionError"


def test_what_the_environment_says() -> None:
    own = RedisSettings.from_environment({"ROEHUB_DATA_DIR": "/data", "REDIS_HOST": " "})
    assert own.path == Path("/data/valkey")
    assert own.embedded
    given = {
        "REDIS_HOST": "redis",
        "REDIS_PORT": "6380",
        "REDIS_DB": "2",
        "ROEHUB_REDIS_PASSWORD": "s3cret",
    }
    server = RedisSettings.from_environment(given, socket_timeout_s=1.0)
    assert (server.host, server.port, server.db, server.password) == ("redis", 6380, 2, "s3cret")
    assert server.socket_timeout_s == 1.0
    assert "s3cret" not in repr(server) + server.place
    assert RedisSettings.from_environment(given, password_env=None).password == ""
    with pytest.raises(InvalidInput, match="REDIS_PORT"):
        RedisSettings.from_environment({**given, "REDIS_PORT": "many"})


@pytest.mark.parametrize(
    "settings",
    [{"host": ""}, {"port": 0}, {"db": -1}, {"socket_timeout_s": 0}, {"connect_timeout_s": 0}],
)
def test_settings_are_checked(settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        RedisSettings(**settings)
