"""The cluster file is one that Ray's launcher takes, and says what this repository has."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[2]
COMMANDS = ("setup_commands", "head_start_ray_commands", "worker_start_ray_commands")


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "ray_cluster.yaml").read_text(encoding="utf-8"))


def test_the_launcher_takes_it(config: dict[str, Any]) -> None:
    prepared = prepare_config(config)
    validate_config(prepared)
    workers = config["provider"]["worker_ips"]
    nodes = prepared["available_node_types"][prepared["head_node_type"]]
    assert nodes["min_workers"] == nodes["max_workers"] == len(workers)


@pytest.mark.parametrize("kind", COMMANDS)
def test_commands_are_shell(config: dict[str, Any], kind: str) -> None:
    for command in config[kind]:
        subprocess.run(["bash", "-n", "-c", command], check=True)


def test_nodes_install_the_lock_and_share_the_secret(config: dict[str, Any]) -> None:
    set_up = "\n".join(config["setup_commands"])
    assert "--require-hashes -r ~/roehub/requirements.txt" in set_up
    assert (ROOT / "requirements.txt").is_file()
    assert "RAY_AUTH_MODE=token" in set_up
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert all(". ~/.roehub-env" in c for kind in COMMANDS[1:] for c in config[kind])


def test_the_node_types_with_cards_are_taken_too(config: dict[str, Any]) -> None:
    lines = (ROOT / "ray_cluster.yaml").read_text(encoding="utf-8").splitlines()
    first = lines.index("#     available_node_types:")
    last = lines.index("#     head_node_type: head")
    types = yaml.safe_load("\n".join(line[6:] for line in lines[first : last + 1]))
    cloud = {name: value for name, value in config.items() if name != "min_workers"}
    cloud |= types | {"provider": {"type": "aws", "region": "eu-central-1"}, "max_workers": 12}
    validate_config(prepare_config(cloud))
    cards = types["available_node_types"]["cards"]["resources"]
    assert (cards["GPU"], "GPU" in types["available_node_types"]["processors"]["resources"]) == (
        1, False,
    )  # fmt: skip
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    set_up = "\n".join(config["setup_commands"])
    assert all(f'"{package}"' in set_up for package in extra["cuda"])
