"""Addresses that do not answer, or answer as something else: one clear error, in time."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
import ray
from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc

from cluster.errors import ClusterUnavailable
from cluster.ray_address import DEADLINE_SECONDS, reached
from compute.errors import InvalidInput

messages: Any = gcs_service_pb2
ANSWER_SECONDS = 20.0  # what the command promises


class Head(gcs_service_pb2_grpc.NodeInfoGcsServiceServicer):
    """A head's node service, as far as it is asked for."""

    def __init__(self, version: str, token: str | None = None) -> None:
        self.version = version
        self.token = token

    def _admit(self, context: Any) -> None:
        sent = dict(context.invocation_metadata()).get("authorization")
        if self.token is not None and sent != f"Bearer {self.token}":
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "InvalidAuthToken")

    def CheckAlive(self, request: Any, context: Any) -> Any:  # noqa: N802  # named by the service
        self._admit(context)
        return messages.CheckAliveReply(ray_version=self.version)

    def GetAllNodeInfo(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._admit(context)
        reply = messages.GetAllNodeInfoReply()
        reply.node_info_list.add().node_id = bytes(28)
        return reply


@contextmanager
def serving(head: Head) -> Iterator[str]:
    """The address of a server that is `head`."""
    server = grpc.server(ThreadPoolExecutor(2))
    gcs_service_pb2_grpc.add_NodeInfoGcsServiceServicer_to_server(head, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of somebody who takes calls and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        calls: list[socket.socket] = []

        def listen() -> None:
            try:
                while True:
                    calls.append(server.accept()[0])
            except OSError:
                return

        thread = threading.Thread(target=listen)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        for call in calls:
            call.close()


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    "address", ["", "head", "head:", ":6379", "head:port", "head:0", "head:70000", "ray://head:1"]
)
def test_text_that_is_no_address(address: str) -> None:
    with pytest.raises(InvalidInput, match="is not host:port of a head node"):
        reached(address)


def test_a_closed_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(ClusterUnavailable, match=r"no Ray head answers .* \(unavailable\)"):
        reached(address)


def test_an_unknown_host() -> None:
    with pytest.raises(ClusterUnavailable, match="no Ray head answers"):
        reached("head.invalid:6379")


def test_a_silent_port_is_given_up_in_time(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.ray_address.DEADLINE_SECONDS", 0.2)
    with pytest.raises(ClusterUnavailable, match="deadline exceeded") as refused:
        reached(silent)
    assert refused.value.details == {"address": silent, "status": "DEADLINE_EXCEEDED"}
    assert 3 * DEADLINE_SECONDS < ANSWER_SECONDS  # it takes three questions at most


def test_another_version() -> None:
    with (
        serving(Head("1.2.3")) as address,
        pytest.raises(
            ClusterUnavailable, match=rf"runs Ray 1\.2\.3, this process {ray.__version__}"
        ),
    ):
        reached(address)


def test_a_cluster_without_a_node_here() -> None:
    with (
        serving(Head(ray.__version__)) as address,
        pytest.raises(ClusterUnavailable, match=rf"ray start --address={address} --num-cpus=0"),
    ):
        reached(address)


def test_a_wrong_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "b" * 64)
    with (
        serving(Head(ray.__version__, "a" * 64)) as address,
        pytest.raises(ClusterUnavailable, match="refuses this token"),
    ):
        reached(address)


def test_the_right_token_is_found_out_to_be_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "a" * 64)
    with (
        serving(Head(ray.__version__, "a" * 64)) as address,
        pytest.raises(ClusterUnavailable, match="no node of the cluster"),
    ):
        reached(address)
