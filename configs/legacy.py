"""`strategy_live_runner.yaml`, the older name of what `strategy.yaml` has; for the live runner.

It has either the path of the file that counts, or the settings themselves:

    strategy_live_runner: {config_ref: {path: strategy.yaml}}
    strategy_live_runner: {poll_interval_seconds: 5, redis_streams: {…}, repair: {…}, …}
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from configs.load import ConfigFile, InvalidConfig, config_path, document_of, parsed_config

_NAME = "strategy_live_runner"
_ROOT = Path(__file__).resolve().parents[1]
_KNOWN = ("poll_interval_seconds", "redis_streams", "repair", "realtime_output", "telegram")
_GONE = ("retry_attempts",)
"""Of `repair`: a minute is asked for until it is settled."""


def runner_config(
    environ: Mapping[str, str] | None = None, *, path: Path | None = None
) -> ConfigFile:
    """The `strategy` file of the live runner, whichever of the two forms it is written in.

    `path` is used instead of the environment's own if it is given. Raises: InvalidConfig.
    """
    path = config_path("strategy", environ) if path is None else path
    document = document_of(path)
    if _NAME not in document:
        return parsed_config("strategy", document, path, environ)
    settings = _mapping(path, _NAME, document.pop(_NAME))
    if set(document) - {"version"}:
        raise InvalidConfig(f"{path}: {_NAME} is alone in a file, beside version")
    if "config_ref" in settings:
        if len(settings) > 1:
            raise InvalidConfig(f"{path}: {_NAME}: beside config_ref there is nothing")
        target = _referred(path, settings["config_ref"])
        return parsed_config("strategy", document_of(target), target, environ)
    found = {"strategy": _strategy(path, settings)} | document
    return parsed_config("strategy", found, path, environ)


def _referred(path: Path, reference: object) -> Path:
    """The file that counts: absolute, of this installation, or beside the one that names it."""
    place = f"{_NAME}.config_ref"
    name = _mapping(path, place, reference).get("path")
    if not isinstance(name, str) or not name.strip():
        raise InvalidConfig(f"{path}: {place}.path: must be the path of a strategy.yaml")
    return (_ROOT if name.startswith("configs/") else path.parent) / name


def _strategy(path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """The same settings where they are in `strategy.yaml`."""
    for key in settings:
        if key not in _KNOWN:
            known = ", ".join((*_KNOWN, "config_ref"))
            raise InvalidConfig(f"{path}: {_NAME}.{key}: unknown key; known are {known}")
    repair = _mapping(path, f"{_NAME}.repair", settings.get("repair"))
    worker = {key: settings[key] for key in _KNOWN[:2] if key in settings}
    worker["repair"] = {key: value for key, value in repair.items() if key not in _GONE}
    return {
        "live_worker": worker,
        "realtime_output": {"redis_streams": settings.get("realtime_output")},
        "telegram": settings.get("telegram"),
    }


def _mapping(path: Path, place: str, node: object) -> dict[str, Any]:
    if node is not None and not isinstance(node, dict):
        raise InvalidConfig(f"{path}: {place}: must be a mapping, got {node!r}")
    return cast("dict[str, Any]", node or {})
