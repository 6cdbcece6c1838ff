"""`roehub api` as a process: it says where it serves, and ends when it is told to."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
from pathlib import Path

import httpx
import psutil
import pytest

import live.cli
from api.app import configured
from tests.api.service.market import CLIENT_S, client_of
from tests.cluster.cli import call, started

RUN_ID = "330709fd-3999-4f40-bdba-4a235f51b275"

SECRETS = {
    "TELEGRAM_BOT_TOKEN": "123456:a-bot",
    "IDENTITY_JWT_SECRET": "a secret of more than 32 bytes, of this test",
    "IDENTITY_2FA_KEK_B64": base64.b64encode(b"2" * 32).decode(),
    "IDENTITY_EXCHANGE_KEYS_KEK_B64": base64.b64encode(b"k" * 32).decode(),
}


def url_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("serving http://127.0.0.1:"), (line, process.poll())
    return line.split()[1].rstrip(",")


def test_it_serves_what_the_environment_names(tmp_path: Path, database: str) -> None:
    process = started(
        "api", "--port", 0, stderr=subprocess.DEVNULL,
        ROEHUB_ENV="test", ROEHUB_DATA_DIR=str(tmp_path), STRATEGY_PG_DSN=database,
    )  # fmt: skip
    try:
        url = url_of(process)
        client = httpx.Client(base_url=url, timeout=CLIENT_S)
        assert client.get("/health").json() == {"status": "ok"}
        ready = client.get("/ready").json()
        assert ready["status"] == "ready"
        assert ready["checks"] == {"candle_store": "ok", "postgres": "ok", "results_dir": "ok"}
        paths = client.get("/openapi.json").json()["paths"]
        assert "/backtests/jobs/{job_id}" in paths
        for path in ("backtests/jobs", "strategies"):
            assert client.get(path).json() == {"items": [], "next_cursor": None}
        children = psutil.Process(process.pid).children()
        assert any("api.sync_worker" in child.cmdline() for child in children)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        _, alive = psutil.wait_procs(children, timeout=10)
        assert not alive
    finally:
        process.kill()
        process.wait()


def test_nobody_is_logged_in_outside_development() -> None:
    with client_of(lambda: configured({"ROEHUB_ENV": "prod"})) as client:
        user = {"X-Roehub-User": "00000000-0000-0000-0000-000000000001"}
        answer = client.get("/backtests/runtime-defaults", headers=user)
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "unauthorized"
        assert client.get("/indicators").status_code == 200


@pytest.mark.parametrize("command", ["api", "up"])
def test_production_without_secrets_or_database_does_not_start(
    tmp_path: Path, database: str, command: str
) -> None:
    known = {"ROEHUB_ENV": "prod", "ROEHUB_DATA_DIR": str(tmp_path / "data"), **SECRETS}
    for missing in (*SECRETS, "IDENTITY_PG_DSN"):
        given = {name: value for name, value in known.items() if name != missing}
        with pytest.MonkeyPatch.context() as patch:
            for name, value in given.items():
                patch.setenv(name, value)
            if missing != "IDENTITY_PG_DSN":
                patch.setenv("IDENTITY_PG_DSN", database)
            done = call(command, "--port", 0)
        assert done.status == 2
        assert done.stderr.startswith(f"error: {missing} is not set")
    assert not (tmp_path / "data").exists()


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    import socket

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        done = call("api", "--port", other.getsockname()[1])
    assert done.status == 2
    assert "choose another --port" in done.stderr
    assert os.environ.get("ROEHUB_ENV") is None


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--ingest", "--whitelist", "nope.csv"), "nope.csv: no such file"),
        (("--ingest", "--market-data-config", "nope.yaml"), "nope.yaml: cannot be read"),
        (("--whitelist", "nope.csv"), "--whitelist is of --ingest"),
        (("--market-data-config", "nope.yaml"), "--market-data-config is of --ingest"),
    ],
)
def test_ingestion_that_cannot_be_meant_is_refused_before_anything_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...], says: str
) -> None:
    monkeypatch.setenv("ROEHUB_DATA_DIR", str(tmp_path / "data"))
    done = call("up", "--port", 0, *flags)
    assert (done.status, done.stdout) == (2, "")
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("words", [("bind", "x", "--chat", 1), ("reconcile", RUN_ID)])
def test_a_directory_without_data_stays_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[object, ...]
) -> None:
    for name in ("STRATEGY_PG_DSN", "POSTGRES_DSN", "CH_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ROEHUB_DATA_DIR", str(tmp_path))
    done = call("live", *words)
    assert done.status == 2
    assert done.stderr == f"error: no Roehub data at {tmp_path} (ROEHUB_DATA_DIR)\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("badge", "status"), [("exact", 0), ("different", 1), ("unchecked", 4)])
def test_a_check_ends_with_what_it_found(
    monkeypatch: pytest.MonkeyPatch, badge: str, status: int
) -> None:
    found = {
        "badge": badge, "bars": 2, "trades": 1, "until": "u", "differing": 0, "differences": [],
    }  # fmt: skip
    monkeypatch.setattr(live.cli, "reconciled", lambda run_id: found)
    done = call("live", "reconcile", RUN_ID)
    assert done.status == status
    assert done.stdout.startswith("unchecked: " if badge == "unchecked" else "2 bars and 1 trade")
