"""Names, axes, bounds and rules of the 64 ids that requests rely on, and oracles of their own."""

from __future__ import annotations

import ast
import inspect
import json
from pathlib import Path
from types import ModuleType
from typing import cast

import pytest

from compute.indicators.registry import definition, ids, module

CATALOGUE = json.loads((Path(__file__).parents[2] / "golden" / "catalogue.json").read_text())


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_definition_is_the_catalogues(name):
    known, wanted = definition(name), CATALOGUE[name]
    assert known.title == wanted["title"]
    assert list(known.axes) == wanted["axes"]
    assert sorted(known.sources) == wanted["sources"]
    assert [output.name for output in known.outputs] == wanted["outputs"]
    assert known.primary == wanted["primary"]
    params = {
        param.name: [param.kind, param.hard_min, param.hard_max, param.step, param.default]
        for param in known.params
    }
    assert params == wanted["params"]
    rule = known.output().rule
    if wanted["rule"] is not None:
        assert rule is not None
        assert rule.family + ("_inverted" if rule.inverted else "") == wanted["rule"]


@pytest.mark.parametrize("name", ids())
def test_an_oracle_shares_nothing_with_the_kernel(name):
    """It uses its arguments, `math`, `numpy`, its own functions inside, and DEFINITION."""
    file = cast(ModuleType, module(name))
    tree = ast.parse(inspect.getsource(file))
    oracle = next(
        (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "oracle"),
        None,
    )
    if oracle is None:  # another id of the same values, whose oracle it is
        assert module(name).oracle.__module__ != file.__name__
        return
    ours = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("compute"):
            ours |= {alias.asname or alias.name for alias in node.names}
    used = {
        node.id
        for node in ast.walk(oracle)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }
    signature = {
        node.id
        for part in (oracle.args, oracle.returns)
        if part is not None
        for node in ast.walk(part)
        if isinstance(node, ast.Name)
    }
    assert not (used - signature) & ours
