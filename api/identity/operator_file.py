"""The file by which programs on this machine are the local operator of a running service."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from cluster.postgres.settings import DATA_DIR

NAME: Final = "operator.json"


@dataclass(frozen=True, slots=True)
class OperatorFile:
    """The token of the local operator, and the service that it is for."""

    url: str
    token: str = field(repr=False)


def operator_path(environ: Mapping[str, str]) -> Path:
    """Where the file is: beside the embedded stores."""
    root = environ.get("ROEHUB_DATA_DIR", "").strip() or DATA_DIR
    return Path(root).expanduser().absolute() / NAME


def write_operator_file(path: Path, content: OperatorFile) -> None:
    """Puts the file there, whole and readable by its owner alone from its first byte on."""
    part = path.with_name(f"{NAME}.{os.getpid()}")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump({"url": content.url, "token": content.token}, file)
    part.replace(path)


def operator_token(environ: Mapping[str, str], url: str) -> str | None:
    """The token for the service at `url`, if that is the one on this machine."""
    found = read_operator_file(environ)
    try:
        return found.token if found and _same(found.url, url) else None
    except ValueError:  # no port
        return None


def read_operator_file(environ: Mapping[str, str]) -> OperatorFile | None:
    """What a service on this machine left; None where there is none, and in production."""
    if in_production(environ):
        return None
    try:
        found = json.loads(operator_path(environ).read_text())
        return OperatorFile(str(found["url"]), found["token"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def in_production(environ: Mapping[str, str]) -> bool:
    """Whether there is no local operator."""
    return environ.get("ROEHUB_ENV", "").strip() == "prod"


def is_loopback(host: str | None) -> bool:
    """Whether only this machine reaches a host."""
    try:
        return host == "localhost" or ip_address(host or "").is_loopback
    except ValueError:
        return False


def _same(one: str, other: str) -> bool:
    """Whether both are the same port of this machine, by whatever name it goes."""
    first, second = urlsplit(one), urlsplit(other)
    return (
        first.port == second.port
        and is_loopback(first.hostname)
        and is_loopback(second.hostname)
        and first.scheme == second.scheme
    )
