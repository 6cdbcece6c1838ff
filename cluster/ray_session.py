"""A session with a Ray cluster: one started on this machine for the occasion, or one joined.

A cluster started here is private: on a directory of its own, guarded by a random token, without a
dashboard unless asked for. Its processes die with this one, however it ends.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

# Read by Ray when it is imported or started: no statistics sent home, no environment rebuilt under
# `uv run`, no advice printed about devices, and no endless retries of a task that exhausts memory.
_ENVIRONMENT: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_task_oom_retries": "3",
}
for _name, _value in _ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)

import ray  # noqa: E402
from ray._private import worker as ray_worker  # noqa: E402
from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore  # noqa: E402
from ray.exceptions import RayError  # noqa: E402

import compute  # noqa: E402
from cluster.errors import ClusterUnavailable  # noqa: E402
from cluster.ray_address import reached  # noqa: E402
from compute.settings import Cpu  # noqa: E402

LEAST_SHARED_BYTES: Final = 256 << 20
_SHARED_MEMORY: Final = Path("/dev/shm")


@dataclass(frozen=True, slots=True)
class RaySession:
    """The cluster this process is connected to; one `started` here ends with the session."""

    address: str
    started: bool
    dashboard_url: str | None


@contextmanager
def ray_session(
    address: str | None = None,
    num_cpus: int | None = None,
    *,
    num_gpus: int | None = None,
    dashboard: bool = False,
    object_store_bytes: int | None = None,
) -> Iterator[RaySession]:
    """A `RaySession` at `address` ("host:port" of a head), or with `num_cpus` cores started here.

    `num_gpus` cards of this machine; None: those that Ray finds.

    Where this process is connected already, that connection is used and left as it is.
    Raises: ClusterUnavailable, for an address that does not answer within 20 seconds.
    """
    if ray.is_initialized():
        yield _session(started=False)
        return
    if address is not None:
        with _environment({}):
            mode, token = reached(address)
            with _authenticated(mode, token):
                yield from _connected(address=address, runtime_env=_joined_environment())
        return
    check_shared_memory()
    cores = Cpu(num_cpus).threads()
    token = os.environ.get("RAY_AUTH_TOKEN") or secrets.token_hex(32)
    with _environment({}), _authenticated("token", token), _directory() as directory:
        yield from _connected(
            num_cpus=cores,
            num_gpus=num_gpus,
            include_dashboard=dashboard,
            object_store_memory=object_store_bytes,
            _temp_dir=str(directory),
            runtime_env=_started_environment(),
        )


def check_shared_memory(least_bytes: int = LEAST_SHARED_BYTES) -> None:
    """Raises ClusterUnavailable where shared memory is too small for Ray's object store."""
    free = shutil.disk_usage(_SHARED_MEMORY).free if _SHARED_MEMORY.is_dir() else 0
    if free < least_bytes:
        raise ClusterUnavailable(
            f"Ray keeps candles and planes in {_SHARED_MEMORY}: it needs {least_bytes >> 20} MiB "
            f"free, there are {free >> 20} MiB; in a container give --shm-size=8g (30 % of the "
            "memory or more), or use --executor local, which needs none",
            details={"need_bytes": least_bytes, "free_bytes": free},
        )


def _connected(**options: Any) -> Iterator[RaySession]:
    """Connects, yields the session, disconnects; whatever Ray raises on the way in is typed."""
    started = "address" not in options
    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
    except (ConnectionError, RuntimeError, OSError, ValueError, RayError) as error:
        with suppress(Exception):
            ray.shutdown()
        where = "start on this machine" if started else f"be joined at {options['address']}"
        reason = str(error).strip().splitlines()
        raise ClusterUnavailable(
            f"Ray cannot {where}: {reason[0] if reason else type(error).__name__}; see "
            "`roehub doctor`, or use --executor local"
        ) from error
    try:
        yield _session(started)
    finally:
        ray.shutdown()


def _session(started: bool) -> RaySession:
    context = ray.get_runtime_context()
    node = ray_worker.global_worker.node
    url = node.address_info.get("webui_url") if node is not None else None
    return RaySession(context.gcs_address, started, f"http://{url}" if url else None)


def _started_environment() -> dict[str, Any]:
    """Environment of workers on this machine: one thread each, this process's code and kernels."""
    from compute.jit import CACHE_DIR

    return {"env_vars": {**_one_thread(), "NUMBA_CACHE_DIR": str(CACHE_DIR), **_code_path()}}


def _joined_environment() -> dict[str, Any]:
    """Environment of workers anywhere: nodes know where they keep kernels, unless told here."""
    told = os.environ.get("ROEHUB_NUMBA_CACHE_DIR")
    kernels = {"ROEHUB_NUMBA_CACHE_DIR": told} if told else {}
    return {"env_vars": {**_one_thread(), **kernels, **_code_path()}}


def _one_thread() -> dict[str, str]:
    return {"NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def _code_path() -> dict[str, str]:
    """Where workers find this code when it runs from a checkout that is not installed."""
    root = str(Path(next(iter(compute.__path__))).parent)
    before = os.environ.get("PYTHONPATH", "")
    paths = [root, *(path for path in before.split(os.pathsep) if path and path != root)]
    return {"PYTHONPATH": os.pathsep.join(paths)}


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """`values` and what Ray should always be told in this process's environment, for a while."""
    wanted = {**{k: os.environ.get(k, v) for k, v in _ENVIRONMENT.items()}, **values}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _authenticated(mode: str, token: str | None) -> Iterator[None]:
    """This process speaks to Ray in `mode`, with `token`; so do the processes it starts."""
    values = {"RAY_AUTH_MODE": mode, **({"RAY_AUTH_TOKEN": token} if token else {})}
    try:
        with _environment(values):
            _read_environment()
            yield
    finally:
        _read_environment()


def _read_environment() -> None:
    """Makes Ray's native part, which read the environment when it was loaded, read it again."""
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


@contextmanager
def _directory() -> Iterator[Path]:
    """A private directory for Ray's sockets and logs; what dead processes left behind goes too.

    Under /tmp, not $TMPDIR: the path of a socket has at most 107 bytes.
    """
    root = Path(os.environ.get("RAY_TMPDIR", "/tmp")) / f"roehub-ray-{os.getuid()}"
    root.mkdir(mode=0o700, exist_ok=True)
    if root.stat().st_uid != os.getuid():
        raise ClusterUnavailable(
            f"{root} belongs to somebody else; set RAY_TMPDIR to another place"
        )
    root.chmod(0o700)
    for left in root.iterdir():
        if left.name == str(os.getpid()) or not _alive(left.name):
            shutil.rmtree(left, ignore_errors=True)
    path = root / str(os.getpid())
    path.mkdir()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _alive(pid: str) -> bool:
    return not pid.isdigit() or Path("/proc", pid).exists()
