"""Typed errors of the cluster; messages say need, limit and cure."""

from __future__ import annotations

from compute.errors import InvalidInput, RoehubError


class ClusterUnavailable(InvalidInput):
    """No Ray cluster to be had: an address that does not answer, or one that cannot start here."""


class ForeignNode(InvalidInput):
    """A node whose results could differ: other versions, another processor, other code."""


class ClusterMemory(RoehubError):
    """Memory of a node, or its shared memory, is too small for the run."""


class ClusterLost(RoehubError):
    """Tasks that failed with their processes or nodes more often than they are tried again."""
