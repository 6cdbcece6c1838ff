"""Does a Ray head answer at an address? Asked with deadlines, before Ray's own client would wait.

Ray's client tries a dead address for a minute or longer, and its native part may end the process.
One plain RPC to the head tells within seconds whether it lives, whether it wants a token and
which version it runs.
"""

from __future__ import annotations

import os
from typing import Any, Final

import grpc
import ray
from ray._private.services import find_node_ids
from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]  # compiled
from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc

from cluster.errors import ClusterUnavailable
from compute.errors import InvalidInput

DEADLINE_SECONDS: Final = 5.0
_AUTHORIZATION: Final = "authorization"
_Messages: Any = gcs_service_pb2  # generated at run time, without types


def reached(address: str) -> tuple[str, str | None]:
    """(authentication mode, token) with which the head at `address` answers, in 15 s at most.

    Raises: InvalidInput for text that is no address; ClusterUnavailable where nobody answers, the
    token is wrong, the version is another, or no node of that cluster runs on this machine.
    """
    _check_form(address)
    mode, token = _mode(address)
    version = _asked(address, "CheckAlive", _Messages.CheckAliveRequest(), token).ray_version
    if version != ray.__version__:
        raise ClusterUnavailable(
            f"the cluster at {address} runs Ray {version}, this process {ray.__version__}; install "
            "requirements.txt on both"
        )
    nodes = _asked(address, "GetAllNodeInfo", _Messages.GetAllNodeInfoRequest(), token)
    here = find_node_ids()
    if not any(node.node_id.hex() in here for node in nodes.node_info_list if node.state == 0):
        raise ClusterUnavailable(
            f"no node of the cluster at {address} runs on this machine; run roehub on one that "
            f"does, or add this one: ray start --address={address} --num-cpus=0"
        )
    return mode, token


def _check_form(address: str) -> None:
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise InvalidInput(
            f"Ray address {address!r} is not host:port of a head node, for instance 10.0.0.1:6379"
        )


def _mode(address: str) -> tuple[str, str | None]:
    """How the environment or else the head wants us to authenticate."""
    told = os.environ.get("RAY_AUTH_MODE", "").lower()
    if told and told != "token":
        return told, None
    if not told:
        try:
            _asked(address, "CheckAlive", _Messages.CheckAliveRequest(), None)
            return "disabled", None
        except _Unauthenticated:
            pass
    loader = AuthenticationTokenLoader.instance()
    loader.reset_cache()
    if not loader.has_token(ignore_auth_mode=True):
        raise ClusterUnavailable(
            f"the cluster at {address} wants a token; set RAY_AUTH_TOKEN, or put the head's "
            "~/.ray/auth_token into the same place here"
        )
    return "token", loader.get_raw_token(ignore_auth_mode=True)


class _Unauthenticated(ClusterUnavailable):
    """The head answers, but not to us."""


def _asked(address: str, method: str, request: Any, token: str | None) -> Any:
    """The head's reply to one call of its node service."""
    metadata = [(_AUTHORIZATION, f"Bearer {token}")] if token else []
    # A proxy for web traffic is none for the cluster.
    options = [("grpc.enable_http_proxy", 0)]
    try:
        with grpc.insecure_channel(address, options=options) as channel:
            stub = gcs_service_pb2_grpc.NodeInfoGcsServiceStub(channel)
            return getattr(stub, method)(request, timeout=DEADLINE_SECONDS, metadata=metadata)
    except grpc.RpcError as error:
        code = error.code()  # type: ignore[attr-defined]  # grpc raises calls, which have codes
        if code == grpc.StatusCode.UNAUTHENTICATED:
            raise _Unauthenticated(
                f"the cluster at {address} refuses this token; set RAY_AUTH_TOKEN to that of its "
                "head (RAY_AUTH_MODE=token), or copy the head's ~/.ray/auth_token here"
            ) from None
        raise ClusterUnavailable(
            f"no Ray head answers at {address} ({code.name.lower().replace('_', ' ')}); is it "
            "running (`ray status` there), is the port open, is the address that of the head? "
            "Without an address a cluster is started on this machine",
            details={"address": address, "status": code.name},
        ) from None
