"""A local cluster for the tests of a file that ask for one; fault tests bring their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cluster.ray_executor import RayExecutor
from cluster.ray_session import RaySession, ray_session
from compute.executor import LocalExecutor
from tests.conftest import STARTS_RAY

WORKERS = 2


@pytest.fixture(scope="module")
def session(request: pytest.FixtureRequest) -> Iterator[RaySession]:
    file = request.path.relative_to(request.config.rootpath).as_posix()
    assert file.startswith(STARTS_RAY), f"{file} starts Ray: name it in STARTS_RAY"
    with ray_session(num_cpus=WORKERS, num_gpus=2) as session:  # nobody looks for the cards
        yield session


@pytest.fixture
def cluster(session: RaySession) -> Iterator[RayExecutor]:
    """An executor that sends even the smallest stage to the cluster."""
    with RayExecutor(WORKERS, smallest_ns=0) as executor:
        yield executor


@pytest.fixture
def local() -> Iterator[LocalExecutor]:
    with LocalExecutor(WORKERS) as executor:
        yield executor
