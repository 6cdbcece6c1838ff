"""Shipped configuration and the loader: values, precedence, and every way a file can be wrong."""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar

import pytest

from api.settings import ApiSettings, SyncSettings
from cluster.jobs.settings import JobSettings
from compute.axes import Explicit, Range, materialised
from compute.indicators.defaults import check_defaults, indicator_defaults
from compute.indicators.registry import ids
from compute.keys import backtest_runtime_config_hash
from compute.settings import Cpu, Defaults, Limits, Search
from configs.load import (
    ENVIRONMENTS,
    ConfigFile,
    InvalidConfig,
    config,
    config_path,
    environment,
    environment_file,
)

# Ids that are one output of another one: a request names their parameters.
WITHOUT_DEFAULTS = {"structure.pivot_high", "structure.pivot_low"}


def shipped(name: str, env: str) -> ConfigFile:
    return config(name, {"ROEHUB_ENV": env})


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_shipped_backtest_settings_are_the_contracts(env: str) -> None:
    file = shipped("backtest", env)
    defaults = file.settings(Defaults)
    assert defaults == Defaults()
    assert file.settings(Limits) == Limits(600_000, 5_368_709_120)
    assert file.settings(Cpu) == Cpu(None)
    assert backtest_runtime_config_hash(defaults) == (
        "290d48e5ccf4b4413341aa4423ec945068527c2d3fe0f973e195390510b2ea79"
    )


@pytest.mark.parametrize(("env", "deadline"), [("dev", 55.0), ("test", 9999.0), ("prod", 9999.0)])
def test_shipped_operational_values(env: str, deadline: float) -> None:
    document = shipped("backtest", env).document["backtest"]
    assert shipped("backtest", env).settings(SyncSettings) == SyncSettings(deadline)
    assert shipped("backtest", env).settings(ApiSettings) == ApiSettings()
    assert document["jobs"] == {
        "enabled": True,
        "top_k_persisted_default": 300,
        "max_active_jobs_per_user": 3,
        "claim_poll_seconds": 1.0,
        "lease_seconds": 60,
        "heartbeat_seconds": 15,
        "snapshot_seconds": 30,
        "snapshot_variants_step": 1000,
        "parallel_workers": 1,
        "max_attempts": 5,
        "retention_days": 30,
    }
    file = shipped("backtest", env)
    assert file.settings(Search) == Search("cpu")
    for settings in (JobSettings, SyncSettings, ApiSettings, Search):
        assert set(document[settings.SECTIONS[0].split(".")[1]]) == {
            one.name for one in fields(settings)
        }
        file.settings(settings)
    assert document["jobs"]["heartbeat_seconds"] < document["jobs"]["lease_seconds"] / 2


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_shipped_indicator_defaults_fit_the_definitions(env: str) -> None:
    file = shipped("indicators", env)
    found = indicator_defaults(file.document, str(file.path))
    assert set(found) <= set(ids()) - WITHOUT_DEFAULTS
    assert len(found) >= 86  # an indicator may come without; none loses what it has
    check_defaults(found.values())


def test_prod_defaults_are_within_dev_and_test_is_one_value_an_axis() -> None:
    dev, test, prod = (
        indicator_defaults(shipped("indicators", env).document) for env in ENVIRONMENTS
    )
    assert set(dev) == set(test) == set(prod)
    for name in prod:
        axes = [
            {"source": d.source, **d.params, **d.signals}
            for d in (dev[name], test[name], prod[name])
        ]
        assert set(axes[0]) == set(axes[1]) == set(axes[2])
        for key, wide in axes[0].items():
            if wide is None:
                assert axes[1][key] is axes[2][key] is None
                continue
            one, narrow = axes[1][key], axes[2][key]
            assert one is not None
            assert narrow is not None
            assert isinstance(one, Explicit)
            assert len(one.values) == 1
            assert set(materialised(narrow)) <= set(materialised(wide))


def test_shipped_ranges() -> None:
    prod = indicator_defaults(shipped("indicators", "prod").document)
    assert prod["ma.sma"].source == Explicit(("close", "hlc3", "ohlc4", "low", "high", "open"))
    assert prod["ma.sma"].params == {"window": Range(5, 200, 1)}
    assert prod["volatility.bbands_percent_b"].params["mult"] == Range(0.5, 4.0, 0.01)
    assert prod["momentum.rsi"].signals == {
        "long_threshold": Range(15, 45, 5),
        "short_threshold": Range(55, 85, 5),
    }


def test_environment_is_dev_unless_said() -> None:
    assert environment({}) == environment({"ROEHUB_ENV": " "}) == "dev"
    assert config_path("backtest", {"ROEHUB_ENV": "prod"}).parts[-2:] == ("prod", "backtest.yaml")
    with pytest.raises(InvalidConfig, match="dev, test, prod, got 'stage'"):
        config("backtest", {"ROEHUB_ENV": "stage"})


def test_an_explicit_file_wins(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("version: 1\nbacktest: {top_k_default: 7}\n")
    environ = {"ROEHUB_BACKTEST_CONFIG": str(path), "ROEHUB_ENV": "stage"}
    defaults = config("backtest", environ).settings(Defaults)
    assert (defaults.top_k_default, defaults.preselect_default) == (7, 20_000)
    indicators = tmp_path / "indicators.yaml"
    indicators.write_text("schema_version: 1\ndefaults: {}\n")
    file = config("indicators", {"ROEHUB_INDICATORS_CONFIG": str(indicators)})
    assert indicator_defaults(file.document) == {}


def written(tmp_path: Path, text: str) -> ConfigFile:
    path = tmp_path / "backtest.yaml"
    path.write_text(text)
    return config("backtest", {"ROEHUB_BACKTEST_CONFIG": str(path)})


def test_overrides_win_and_none_is_absent(tmp_path: Path) -> None:
    file = written(tmp_path, "version: 1\nbacktest: {guards: {max_variants_per_compute: 5}}\n")
    key = "backtest.guards.max_variants_per_compute"
    assert file.settings(Limits).max_variants_per_compute == 5
    assert file.settings(Limits, {key: 9}).max_variants_per_compute == 9
    assert file.settings(Limits, {key: None}).max_variants_per_compute == 5
    for stray in ("backtest.guards.max_variants", "backtest.cpu.max_numba_threads"):
        with pytest.raises(InvalidConfig, match=f"override {stray} names no setting of Limits"):
            file.settings(Limits, {stray: 1})
    with pytest.raises(InvalidConfig, match=r"must be an integer, got 1\.5"):
        file.settings(Limits, {key: 1.5})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("version: 1\nbacktest: {top_k: 3}", "backtest.top_k: unknown key; known are warmup"),
        ("version: 1\nbacktest: {gaurds: {}}", "backtest.gaurds: unknown key"),
        ("version: 1\nbacktest: {ranking: {metric: x}}", "backtest.ranking.metric: unknown key"),
        ("version: 1\nbacktest: {top_k_default: true}", "top_k_default: must be an integer, got"),
        ("version: 1\nbacktest: {top_k_default: '3'}", "must be an integer, got '3'"),
        ("version: 1\nbacktest: {top_k_default: 3.0}", "must be an integer, got 3.0"),
        ("version: 1\nbacktest: {top_k_default: 0}", "top_k_default must be > 0, got 0"),
        ("version: 1\nbacktest: {execution: [1]}", "backtest.execution: must be a mapping"),
        (
            "version: 1\nbacktest: {execution: {slippage_pct_default: .nan}}",
            "backtest.execution.slippage_pct_default: must be a finite number, got nan",
        ),
        (
            "version: 1\nbacktest: {execution: {slippage_pct_default: 100}}",
            "slippage_pct_default must be >= 0 and < 100, got 100.0",
        ),
        (
            "version: 1\nbacktest: {execution: {safe_profit_percent_default: 101}}",
            "safe_profit_percent_default must be finite and in 0..100, got 101.0",
        ),
        (
            "version: 1\nbacktest: {execution: {fee_pct_default_by_market_id: {1: -1}}}",
            "fee_pct_default_by_market_id.1 must be finite",
        ),
        (
            "version: 1\nbacktest: {execution: {fee_pct_default_by_market_id: {a: 1}}}",
            "fee_pct_default_by_market_id key: must be an integer, got 'a'",
        ),
        (
            "version: 1\nbacktest: {execution: {fee_pct_default_by_market_id: {0: 1}}}",
            "a market id of fee_pct_default_by_market_id must be > 0, got 0",
        ),
        (
            "version: 1\nbacktest: {execution: {fee_pct_default_by_market_id: {}}}",
            "must name at least one market",
        ),
        (
            "version: 1\nbacktest: {execution: {fee_pct_default_by_market_id: 3}}",
            "fee_pct_default_by_market_id: must be a mapping",
        ),
        (
            "version: 1\nbacktest: {ranking: {primary_metric_default: sharpe}}",
            "primary_metric_default must be one of max_drawdown_pct, profit_factor",
        ),
        (
            "version: 1\nbacktest: {ranking: {secondary_metric_default: total_return_pct}}",
            "secondary_metric_default must differ",
        ),
        (
            "version: 1\nbacktest: {reporting: {eager_top_reports_enabled: 1}}",
            "eager_top_reports_enabled: must be true or false, got 1",
        ),
    ],
)
def test_settings_that_are_refused(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        written(tmp_path, text).settings(Defaults)
    assert reason in str(caught.value)
    assert str(tmp_path / "backtest.yaml") in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("version: 2\nbacktest: {}", "version: must be 1, got 2"),
        ("backtest: {}", "version: must be 1, got None"),
        ("version: true\nbacktest: {}", "version: must be 1, got True"),
        ("version: 1\nbacktests: {}", "backtests: unknown key; known are version, backtest"),
        ("[1]", "must be a mapping at the top"),
        ("", "must be a mapping at the top"),
        ("a: [", "not valid YAML"),
        ("version: 1\nbacktest: {a: 1, a: 2}", "found the key 'a' twice"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        written(tmp_path, text)
    assert reason in str(caught.value)


def test_missing_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "absent.yaml"
    with pytest.raises(InvalidConfig, match="cannot be read") as caught:
        config("backtest", {"ROEHUB_BACKTEST_CONFIG": str(path)})
    assert str(path) in str(caught.value)


@dataclass(frozen=True)
class Jobs:
    SECTIONS: ClassVar = ("backtest.jobs",)

    lease_seconds: int
    names: tuple[str, ...] = ()


def test_fields_without_default_are_required_and_lists_become_tuples(tmp_path: Path) -> None:
    file = written(tmp_path, "version: 1\nbacktest: {jobs: {names: [a, b], lease_seconds: 2}}")
    assert file.settings(Jobs) == Jobs(2, ("a", "b"))
    file = written(tmp_path, "version: 1\nbacktest: {jobs: {names: [1]}}")
    with pytest.raises(InvalidConfig, match=r"backtest\.jobs\.names\.0: must be a text, got 1"):
        file.settings(Jobs)
    with pytest.raises(InvalidConfig, match=r"backtest\.jobs\.lease_seconds: required"):
        written(tmp_path, "version: 1\n").settings(Jobs)


@dataclass(frozen=True)
class Wheel:
    spokes: int
    name: str = "front"

    def __post_init__(self) -> None:
        if self.spokes < 1:
            raise ValueError("spokes must be > 0")


@dataclass(frozen=True)
class Cart:
    SECTIONS: ClassVar = ("market_data",)

    wheels: tuple[Wheel, ...]
    spare: Wheel | None = None
    built: str = ""


def cart(tmp_path: Path, text: str) -> Cart:
    path = tmp_path / "market_data.yaml"
    path.write_text(f"version: 1\nmarket_data: {text}")
    return config("market_data", path=path).settings(Cart)


def test_dataclasses_inside_dataclasses(tmp_path: Path) -> None:
    found = cart(tmp_path, "{wheels: [{spokes: 3}, {spokes: 4, name: back}], spare: {spokes: 5}}")
    assert found == Cart((Wheel(3), Wheel(4, "back")), Wheel(5))
    assert cart(tmp_path, "{wheels: [], spare: null}") == Cart(())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{wheels: [{spokes: 3}, {spokes: x}]}", "market_data.wheels.1.spokes: must be an integer"),
        ("{wheels: [{name: x}]}", "market_data.wheels.0.spokes: required"),
        ("{wheels: [{spokes: 3, rim: 1}]}", "market_data.wheels.0.rim: unknown key; known are"),
        ("{wheels: [{spokes: 0}]}", "market_data.wheels.0: spokes must be > 0"),
        ("{wheels: {spokes: 3}}", "market_data.wheels: must be a list"),
        ("{wheels: [3]}", "market_data.wheels.0: must be a mapping, got 3"),
        ("{wheels: [], spare: {}}", "market_data.spare.spokes: required"),
        ("{wheels: [], spare: [1]}", "market_data.spare: must be a mapping"),
        ("{wheels: [], colour: red}", "market_data.colour: unknown key; known are wheels, spare"),
    ],
)
def test_faults_inside_name_the_place(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        cart(tmp_path, text)
    assert reason in str(caught.value)


def test_a_time_stays_a_text(tmp_path: Path) -> None:
    for text in ("2017-01-01", "2017-01-01T00:00:00Z", "2017-01-01 00:00:00"):
        assert cart(tmp_path, f"{{wheels: [], built: {text}}}").built == text


def test_other_files_of_the_environment() -> None:
    path = environment_file("whitelist.csv", {"ROEHUB_ENV": "prod"})
    assert path.parts[-2:] == ("prod", "whitelist.csv")
    assert path.is_file()
    assert environment_file("whitelist.csv", {}).parts[-2] == "dev"


def test_threads_are_flag_then_setting_then_cores() -> None:
    assert Cpu(3).threads(2) == 2
    assert Cpu(3).threads() == 3
    assert Cpu().threads() >= 1
    with pytest.raises(Exception, match="threads must be > 0, got 0"):
        Cpu().threads(0)


def test_sync_requests_get_half_of_the_limits() -> None:
    assert Limits().halved() == Limits(300_000, 2_684_354_560)
    assert Limits(1, 1).halved() == Limits(1, 1)
    with pytest.raises(Exception, match="max_variants_per_compute must be > 0"):
        Limits(max_variants_per_compute=0)


def test_the_loader_stands_alone() -> None:
    source = Path(sys.modules[config.__module__].__file__ or "").read_text()
    imports = [line for line in source.splitlines() if line.startswith(("import ", "from "))]
    assert not any(name in line for line in imports for name in ("compute", "cluster", "api"))
