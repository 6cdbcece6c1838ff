"""Settings of the live runner: the shipped files, variables and flags over them, older files, and
every way in which one can be wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest
import yaml

import live.cli
from api.app import create_app
from configs.legacy import runner_config
from configs.load import ENVIRONMENTS, InvalidConfig, config
from live.access import RepairSettings
from live.settings import (
    LiveSettings,
    MessageSettings,
    MetricsSettings,
    RealtimeSettings,
    StreamSettings,
    WorkerSettings,
)
from live.strategies.settings import StrategySettings
from tests.api.service.market import context_of
from tests.cluster.cli import call

ROOT = Path(__file__).resolve().parents[2]
TARGETS = (
    StrategySettings, WorkerSettings, StreamSettings, RepairSettings, RealtimeSettings,
    MessageSettings, MetricsSettings,
)  # fmt: skip

# The contract's table: default, dev, test, prod.
REDIS = {
    "port": (6379, 6379, 6379, 6379),
    "db": (0, 0, 0, 0),
    "socket_timeout_s": (2.0, 2.0, 1.0, 2.0),
    "connect_timeout_s": (2.0, 2.0, 1.0, 2.0),
}
CONTRACT: dict[str, tuple[object, ...]] = {
    "api.enabled": (True, True, True, True),
    "live_worker.enabled": (True, True, True, True),
    "live_worker.poll_interval_seconds": (5, 5, 1, 3),
    "live_worker.redis_streams.enabled": (True, True, True, True),
    **{f"live_worker.redis_streams.{name}": values for name, values in REDIS.items()},
    "live_worker.redis_streams.stream_prefix": ("md.candles.1m",) * 4,
    "live_worker.redis_streams.consumer_group": ("strategy.live_runner.v1",) * 4,
    "live_worker.redis_streams.read_count": (200, 200, 50, 500),
    "live_worker.redis_streams.block_ms": (100, 100, 0, 100),
    "live_worker.repair.retry_backoff_seconds": (1.0, 1.0, 0.0, 1.0),
    "realtime_output.redis_streams.enabled": (False, True, True, True),
    **{f"realtime_output.redis_streams.{name}": values for name, values in REDIS.items()},
    "realtime_output.redis_streams.metrics_stream_prefix": ("strategy.metrics.v1.user",) * 4,
    "realtime_output.redis_streams.events_stream_prefix": ("strategy.events.v1.user",) * 4,
    "telegram.enabled": (False, True, True, True),
    "telegram.mode": ("log_only", "log_only", "log_only", "telegram"),
    "telegram.bot_token_env": ("TELEGRAM_BOT_TOKEN",) * 4,
    "telegram.api_base_url": ("https://api.telegram.org",) * 4,
    "telegram.send_timeout_s": (3.0, 2.0, 1.0, 2.0),
    "telegram.debounce_failed_seconds": (600, 600, 600, 600),
    "metrics.port": (9203, 9203, 9203, 9203),
}
# docs/decisions/settings-of-strategies.md says why.
OTHERS: dict[str, tuple[object, ...]] = {
    "live_worker.redis_streams.host": (None,) * 4,
    "realtime_output.redis_streams.host": (None,) * 4,
    "live_worker.redis_streams.password_env": ("ROEHUB_REDIS_PASSWORD",) * 4,
    "realtime_output.redis_streams.password_env": ("ROEHUB_REDIS_PASSWORD",) * 4,
}
OURS: dict[str, object] = {
    "api.max_strategies_per_user": 500,
    "api.max_active_runs_per_user": 20,
    "api.max_indicators": 16,
    "api.max_spec_bytes": 32_768,
    "live_worker.lease_seconds": 10.0,
    "live_worker.reconcile_hours": 24.0,
    "live_worker.keep_bars_days": 90.0,
    "live_worker.redis_streams.claim_idle_ms": 30_000,
    "live_worker.repair.late_seconds": 5.0,
    "live_worker.repair.longest_pause_seconds": 30.0,
    "realtime_output.redis_streams.metrics_maxlen": 10_000,
    "realtime_output.redis_streams.events_maxlen": 10_000,
}


def flat(node: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    """Values by dotted path."""
    found: dict[str, object] = {}
    for key, value in node.items():
        here = f"{prefix}{key}"
        found |= flat(value, f"{here}.") if isinstance(value, dict) else {here: value}
    return found


def values_of(file: Any) -> dict[str, object]:
    """What the settings of a file come to, by dotted path."""
    found: dict[str, object] = {}
    for target in TARGETS:
        section = target.SECTIONS[0].removeprefix("strategy.")
        found |= {f"{section}.{key}": value for key, value in asdict(file.settings(target)).items()}
    return found


def written(tmp_path: Path, text: str, name: str = "strategy.yaml") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def settings_of(path: Path | None, environ: Mapping[str, str] | None = None) -> dict[str, object]:
    return values_of(runner_config(environ or {}, path=path))


@pytest.mark.parametrize("number", range(3), ids=ENVIRONMENTS)
def test_shipped_files_are_the_contracts_table(number: int) -> None:
    file = config("strategy", {"ROEHUB_ENV": ENVIRONMENTS[number]})
    expected = {key: values[1 + number] for key, values in (CONTRACT | OTHERS).items()} | OURS
    assert flat(file.document["strategy"]) == expected
    assert values_of(file) == expected


def test_without_a_file_entry_the_default_counts(tmp_path: Path) -> None:
    expected = {key: values[0] for key, values in (CONTRACT | OTHERS).items()} | OURS
    assert settings_of(written(tmp_path, "version: 1\nstrategy: {}\n")) == expected


SWITCHES = (
    "api.enabled", "live_worker.enabled", "realtime_output.redis_streams.enabled",
    "telegram.enabled",
)  # fmt: skip


@pytest.mark.parametrize("place", SWITCHES)
def test_a_variable_wins_over_the_file(place: str) -> None:
    name = f"ROEHUB_STRATEGY_{place.replace('.', '_').upper()}"
    for text, value in (("no", False), (" OFF ", False), ("0", False), ("True", True), (" ", True)):
        assert settings_of(None, {name: text})[place] is value
    assert settings_of(None, {name: "false"}) == {**settings_of(None), place: False}
    for wrong in ("2", "enabled", "nein"):
        with pytest.raises(InvalidConfig, match=f"{name} must be one of 1, true"):
            settings_of(None, {name: wrong})
    with pytest.raises(InvalidConfig):  # the API reads it in the same way
        config("strategy", {name: "2"})


def test_the_port_is_the_flags_else_the_variables_else_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, "version: 1\nstrategy: {metrics: {port: 1111}}\n")
    name = "ROEHUB_STRATEGY_METRICS_PORT"
    assert settings_of(path)["metrics.port"] == 1111
    assert settings_of(path, {name: " "})["metrics.port"] == 1111
    assert settings_of(path, {name: "2222"})["metrics.port"] == 2222
    for wrong in ("0", "-1", "1.5", "x", "²"):
        with pytest.raises(InvalidConfig, match=f"{name} must be an integer > 0"):
            settings_of(path, {name: wrong})
    served: list[int] = []

    async def run(*arguments: Any) -> None:
        served.append(arguments[6])

    monkeypatch.setattr("live.service.run_live", run)
    monkeypatch.setattr("ingest.stores.ready.ready_store", Nothing)
    monkeypatch.setattr("cluster.postgres.server.postgres", Nothing)
    monkeypatch.setenv(name, "2222")
    assert call("live", "--config", path, "--metrics-port", 3333).status == 0
    assert call("live", "--config", path).status == 0
    monkeypatch.delenv(name)
    assert call("live", "--config", path).status == 0
    assert served == [3333, 2222, 1111]


class Nothing:
    """A store that is none."""

    def __init__(self, *_: object) -> None: ...

    def __enter__(self) -> str:
        return ""

    def __exit__(self, *_: object) -> None: ...


def test_the_file_is_that_of_the_flag_else_of_the_variable_else_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROEHUB_ENV", "prod")
    assert live.cli.live_settings().worker.poll_interval_seconds == 3
    text = "version: 1\nstrategy: {{live_worker: {{poll_interval_seconds: {}}}}}\n"
    one = written(tmp_path, text.format(11), "one.yaml")
    two = written(tmp_path, text.format(12), "two.yaml")
    monkeypatch.setenv("ROEHUB_STRATEGY_CONFIG", str(one))
    assert live.cli.live_settings().worker.poll_interval_seconds == 11
    assert live.cli.live_settings(two).worker.poll_interval_seconds == 12


WRONG = [
    ("live_worker: {poll_interval_seconds: true}", "must be a finite number, got True"),
    ("live_worker: {poll_interval_seconds: 0}", "poll_interval_seconds must be > 0"),
    ("live_worker: {enabled: 1}", "must be true or false, got 1"),
    ("live_worker: {redis_streams: {port: true}}", "must be an integer, got True"),
    ("live_worker: {redis_streams: {port: 0}}", "port must be > 0"),
    ("live_worker: {redis_streams: {db: -1}}", "db must be >= 0"),
    ("live_worker: {redis_streams: {host: ' '}}", "host is blank"),
    ("live_worker: {redis_streams: {password_env: ''}}", "password_env is blank"),
    ("live_worker: {redis_streams: {stream_prefix: ' '}}", "stream_prefix is blank"),
    ("live_worker: {redis_streams: {consumer_group: ''}}", "consumer_group is blank"),
    ("live_worker: {redis_streams: {read_count: 0}}", "read_count must be > 0"),
    ("live_worker: {redis_streams: {block_ms: -1}}", "block_ms must be >= 0"),
    ("live_worker: {redis_streams: {socket_timeout_s: 0}}", "socket_timeout_s must be > 0"),
    ("live_worker: {repair: {retry_backoff_seconds: -1}}", "retry_backoff_seconds must be >= 0"),
    ("live_worker: {repair: {retry_attempts: 3}}", "retry_attempts: unknown key"),
    ("realtime_output: {enabled: true}", "unknown key; known are redis_streams"),
    (
        "realtime_output: {redis_streams: {enabled: true, events_stream_prefix: ' '}}",
        "events_stream_prefix is blank",
    ),
    ("realtime_output: {redis_streams: {enabled: true, port: 0}}", "port must be > 0"),
    ("telegram: {mode: mail}", "strategy.yaml: strategy.telegram: mode must be log_only or"),
    ("telegram: {bot_token_env: ' '}", "bot_token_env is blank"),
    ("telegram: {api_base_url: ''}", "must begin with http"),
    ("telegram: {send_timeout_s: 0}", "send_timeout_s must be > 0"),
    ("telegram: {debounce_failed_seconds: true}", "must be a finite number, got True"),
    ("telegram: {debounce_failed_seconds: -1}", "debounce_failed_seconds must be >= 0"),
    ("telegram: {enabled: true, mode: telegram}", "but TELEGRAM_BOT_TOKEN is not set"),
    (
        "telegram: {enabled: true, mode: telegram, bot_token_env: MINE}",
        "strategy.telegram.mode is telegram, but MINE is not set",
    ),
    ("metrics: {port: 0}", "port must be 1 to 65535"),
    ("metrics: {port: true}", "must be an integer, got True"),
    ("telegrm: {}", "strategy.telegrm: unknown key; known are api, live_worker, metrics"),
    ("live_worker: [1]", "must be a mapping"),
]


@pytest.mark.parametrize(("text", "reason"), WRONG, ids=[text for text, _ in WRONG])
def test_a_runner_with_a_wrong_file_ends_with_2_before_anything_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, reason: str
) -> None:
    monkeypatch.setenv("ROEHUB_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("TELEGRAM_BOT_TOKEN", raising=False)
    done = call("live", "--config", written(tmp_path, f"version: 1\nstrategy: {{{text}}}\n"))
    assert done.status == 2
    assert reason in done.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("text", "reason"),
    [("version: 1\n", "strategy: required"), ("version: 2\nstrategy: {}", "version: must be 1")],
)
def test_files_that_are_no_strategy_files(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(InvalidConfig, match=reason):
        runner_config({}, path=written(tmp_path, text))


def test_what_is_off_is_not_checked(tmp_path: Path) -> None:
    text = "version: 1\nstrategy: {realtime_output: {redis_streams: {port: 0, host: ' '}}}"
    assert settings_of(written(tmp_path, text))["realtime_output.redis_streams.enabled"] is False


def test_a_runner_that_is_off_says_so_and_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROEHUB_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("ROEHUB_STRATEGY_LIVE_WORKER_ENABLED", "off")
    done = call("live")
    assert done.status == 0
    assert "component=live-runner status=disabled" in done.stderr
    assert not (tmp_path / "data").exists()


def test_without_strategies_the_service_has_no_paths_of_them() -> None:
    assert not [path for path in create_app(context_of(None)).openapi()["paths"] if "strat" in path]


def test_streams_of_users_have_a_server_of_their_own_or_that_of_the_feed() -> None:
    assert RealtimeSettings(enabled=True).server({}) is None
    found = RealtimeSettings(enabled=True, host="there", password_env="P").server({"P": "secret"})
    assert found is not None
    assert (found.host, found.password) == ("there", "secret")
    assert "secret" not in repr(found)


OLD = """
version: 1
strategy_live_runner:
  poll_interval_seconds: 7
  redis_streams: {enabled: true, host: redis, port: 6379, db: 0, read_count: 20, block_ms: 100}
  realtime_output: {enabled: true, host: other, metrics_stream_prefix: m}
  telegram: {enabled: false, mode: log_only}
  repair: {retry_attempts: 3, retry_backoff_seconds: 2.0}
"""


def test_an_older_file_with_settings_is_read_by_the_runner_alone(tmp_path: Path) -> None:
    path = written(tmp_path, OLD, "strategy_live_runner.yaml")
    found = settings_of(path, {"ROEHUB_STRATEGY_TELEGRAM_ENABLED": "yes"})
    expected = settings_of(written(tmp_path, "version: 1\nstrategy: {}\n")) | {
        "live_worker.poll_interval_seconds": 7,
        "live_worker.redis_streams.host": "redis",
        "live_worker.redis_streams.read_count": 20,
        "live_worker.repair.retry_backoff_seconds": 2.0,
        "realtime_output.redis_streams.enabled": True,
        "realtime_output.redis_streams.host": "other",
        "realtime_output.redis_streams.metrics_stream_prefix": "m",
        "telegram.enabled": True,
    }
    assert found == expected
    with pytest.raises(InvalidConfig, match="strategy_live_runner: unknown key"):
        config("strategy", path=path)


def test_an_older_file_that_names_another_one(tmp_path: Path) -> None:
    text = "version: 1\nstrategy_live_runner: {{config_ref: {{path: {}}}}}\n"
    target = written(tmp_path, "version: 1\nstrategy: {metrics: {port: 77}}\n")
    for reference, port in (
        ("strategy.yaml", 77), (str(target), 77), ("configs/prod/strategy.yaml", 9203),
    ):  # fmt: skip
        path = written(tmp_path, text.format(reference), "strategy_live_runner.yaml")
        assert settings_of(path)["metrics.port"] == port
    assert settings_of(path)["telegram.mode"] == "telegram"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("strategy_live_runner: {config_ref: {path: gone.yaml}}", "gone.yaml: cannot be read"),
        ("strategy_live_runner: {config_ref: {path: ' '}}", "must be the path of"),
        ("strategy_live_runner: {config_ref: 3}", "config_ref: must be a mapping"),
        ("strategy_live_runner: {config_ref: {path: old.yaml}}", "strategy_live_runner: unknown"),
        ("strategy_live_runner: {config_ref: {path: x}, repair: {}}", "there is nothing"),
        ("strategy_live_runner: {poll: 3}", "strategy_live_runner.poll: unknown key"),
        ("strategy_live_runner: {repair: {x: 3}}", "repair.x: unknown key"),
        ("strategy_live_runner: {repair: [3]}", "repair: must be a mapping"),
        ("strategy_live_runner: {poll_interval_seconds: 0}", "must be > 0"),
        ("strategy_live_runner: {}\nstrategy: {}", "is alone in a file"),
        ("strategy_live_runner: 3", "must be a mapping"),
    ],
)
def test_older_files_that_are_refused(tmp_path: Path, text: str, reason: str) -> None:
    path = written(tmp_path, f"version: 1\n{text}\n", "old.yaml")
    with pytest.raises(InvalidConfig, match=reason):
        settings_of(path)


def test_every_setting_has_its_place_in_a_file() -> None:
    names = {field.name for field in fields(LiveSettings)}
    assert len(names) == len(TARGETS) - 1  # those of the API are the API's
    shipped = yaml.safe_load((ROOT / "configs" / "dev" / "strategy.yaml").read_text())
    assert set(flat(shipped["strategy"])) == set(CONTRACT | OTHERS | OURS)
