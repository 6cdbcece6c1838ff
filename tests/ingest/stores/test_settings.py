"""Which store the environment names."""

from __future__ import annotations

from pathlib import Path

import pytest

from compute.errors import InvalidInput
from ingest.stores.settings import ClickHouseSettings


def test_a_relative_directory_is_shown_whole(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = ClickHouseSettings.from_environment({"ROEHUB_DATA_DIR": "mine"})
    assert settings.place == str(tmp_path / "mine" / "clickhouse")


def test_without_a_server_the_store_is_embedded() -> None:
    settings = ClickHouseSettings.from_environment({"ROEHUB_DATA_DIR": "/data", "CH_HOST": " "})
    assert settings == ClickHouseSettings(path=Path("/data/clickhouse"))
    assert settings.embedded
    home = ClickHouseSettings.from_environment({"HOME": "/ignored", "CLICKHOUSE_DB": "other"})
    assert home.path == Path("~/.local/share/roehub/clickhouse").expanduser()
    assert home.database == "market_data"


def test_a_server_is_named_by_any_of_its_variables() -> None:
    environ = {
        "CH_HOST": "ch.example", "CH_PORT": "8443", "CH_USER": "u", "CH_PASSWORD": "p w",
        "CH_DATABASE": "d", "CH_SECURE": "1", "CH_VERIFY": "0", "ROEHUB_DATA_DIR": "/data",
    }  # fmt: skip
    settings = ClickHouseSettings.from_environment(environ)
    assert settings == ClickHouseSettings("ch.example", 8443, "u", "p w", "d", True, False)
    assert settings.place == "https://ch.example:8443/d"
    assert "p w" not in repr(settings)
    aliased = ClickHouseSettings.from_environment(
        {"CLICKHOUSE_USER": "a", "CLICKHOUSE_PASSWORD": "b"}
    )
    assert aliased == ClickHouseSettings(user="a", password="b")
    both = ClickHouseSettings.from_environment({"CLICKHOUSE_USER": "a", "CH_USER": "b"})
    assert both.user == "b"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("CH_PORT", "http", "CH_PORT is 'http'"),
        ("CH_PORT", "0", "port of the candle store is 0"),
        ("CH_PORT", "65536", "must be 1 to 65535"),
        ("CH_SECURE", "yes", "CH_SECURE is 'yes'; it must be 0 or 1"),
        ("CH_VERIFY", "true", "CH_VERIFY is 'true'; it must be 0 or 1"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused(name: str, value: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        ClickHouseSettings.from_environment({name: value})
