"""Which device searches, on machines that have all or nothing of CUDA."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

import compute.device
from api import sync_tasks
from api.errors import Unavailable, status_of
from compute.device import DeviceUnavailable, Facts, card_wanted, facts, on_device, unusable
from compute.errors import InvalidInput
from compute.executor import LocalExecutor
from compute.settings import Search

CARD = Facts(
    driver=13020, runtime=13020, count=1, name="NVIDIA A100-SXM4-80GB", capability=(8, 0),
    total_bytes=80 << 30, free_bytes=79 << 30,
)  # fmt: skip
LACKING = {
    "nothing": (Facts(missing=("cupy", "numba_cuda")), "CuPy and numba-cuda are", "cuda extra"),
    "no CuPy": (Facts(missing=("cupy",)), "CuPy is not installed", r"pip install .*\[cuda\]"),
    "no driver": (Facts(runtime=13020, error="insufficient"), "no NVIDIA driver", "--gpus all"),
    "old driver": (replace(CARD, driver=12040), r"CUDA 12\.4.* need 13\.2", "cupy-cuda12x"),
    "no card": (replace(CARD, count=0, error="cudaErrorNoDevice"), "no card", "CUDA_VISIBLE"),
    "deaf card": (replace(CARD, error="unknown error"), "unknown error", "nvidia-smi"),
    "old card": (replace(CARD, capability=(6, 1)), r"capability 6\.1, 7\.5 is", "Turing"),
}


@pytest.mark.parametrize(("found", "reason", "cure"), LACKING.values(), ids=LACKING)
def test_without_a_card_that_works(found: Facts, reason: str, cure: str) -> None:
    lacking = unusable(found)
    assert lacking is not None
    said: list[str] = []
    assert card_wanted("auto", said.append, lambda: found) is None
    assert len(said) == 1
    assert said[0].startswith(f"device auto: searching on the CPU, {lacking.reason}")
    with pytest.raises(DeviceUnavailable, match=f"device cuda: .*{reason}") as caught:
        card_wanted("cuda", said.append, lambda: found)
    assert re.search(cure, caught.value.message)
    assert "--device cpu" in caught.value.message
    assert len(said) == 1


def test_with_a_card_nothing_is_said() -> None:
    said: list[str] = []
    for wanted in ("auto", "cuda"):
        assert card_wanted(wanted, said.append, lambda: CARD) is CARD
    assert said == []
    assert CARD.text == (
        "NVIDIA A100-SXM4-80GB, compute capability 8.0, 79.00 GiB free of 80.00 GiB, driver for "
        "CUDA 13.2, toolkit 13.2"
    )


def test_the_processor_is_not_looked_beyond() -> None:
    def probe() -> Facts:
        raise AssertionError("nobody asked for a card")

    assert card_wanted("cpu", print, probe) is None
    with LocalExecutor(1) as inner:
        assert on_device(inner, None) is inner
        assert inner.device == "cpu"
    with pytest.raises(InvalidInput, match="cpu, cuda, auto"):
        card_wanted("gpu", print, probe)
    with pytest.raises(InvalidInput, match="cpu, cuda, auto"):
        Search("gpu")


class CudaRuntimeError(RuntimeError):
    """As CuPy's."""


def runtime(**changes: Any) -> SimpleNamespace:
    """The calls of CuPy's runtime on a machine with a card, some of them changed."""
    calls = {
        "driverGetVersion": lambda: 13020,
        "runtimeGetVersion": lambda: 13020,
        "getDeviceCount": lambda: 2,
        "getDeviceProperties": lambda number: {"name": b"NVIDIA L4", "major": 8, "minor": 9},
        "memGetInfo": lambda: (20 << 30, 22 << 30),
    }
    return SimpleNamespace(cuda=SimpleNamespace(runtime=SimpleNamespace(**calls | changes)))


def insufficient() -> int:
    raise CudaRuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient")


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> Any:
    def install(cupy: Any) -> None:
        monkeypatch.setitem(sys.modules, "cupy", cupy)
        monkeypatch.setattr(compute.device.importlib.util, "find_spec", lambda name: True)

    return install


def test_facts_of_a_machine_without_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compute.device.importlib.util, "find_spec", lambda name: None)
    assert facts() == Facts(missing=("cupy", "numba_cuda"))


def test_facts_of_a_machine_with_cards(packages: Any) -> None:
    packages(runtime())
    found = facts()
    assert unusable(found) is None
    assert (found.name, found.capability, found.count) == ("NVIDIA L4", (8, 9), 2)
    assert found.text.endswith("the first of 2 cards")


def test_facts_of_a_machine_without_a_driver(packages: Any) -> None:
    packages(runtime(driverGetVersion=lambda: 0, getDeviceCount=insufficient))
    found = facts()
    assert found.error.startswith("cudaErrorInsufficientDriver")
    assert LACKING["no driver"][1] in getattr(unusable(found), "reason", "")


def test_facts_of_packages_that_do_not_load(packages: Any) -> None:
    packages(None)  # an import of it fails
    found = facts()
    assert found.error
    assert unusable(found) is not None


def test_a_service_without_a_card_says_what_to_set(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run within a request: `cuda` is the fault of the service, `auto` is said once."""
    monkeypatch.setattr(compute.device, "facts", lambda: Facts(missing=("cupy",)))
    with LocalExecutor(1) as inner:
        assert sync_tasks.device_executor(inner, "cpu") is inner
        sync_tasks._card.cache_clear()  # pyright: ignore[reportPrivateUsage]
        for _ in range(2):
            assert sync_tasks.device_executor(inner, "auto") is inner
        with pytest.raises(Unavailable, match=r"not installed; set backtest\.search") as caught:
            sync_tasks.device_executor(inner, "cuda")
    assert status_of(caught.value) == 503
    assert caught.value.details["error"] == "device_unavailable"
    assert [record.message[:12] for record in caplog.records] == ["device auto:"]
