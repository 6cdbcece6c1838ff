"""A process that serves one request of each kind and prints which kernels it ran itself."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from api.schemas.examples import BACKTESTS, ESTIMATES, REPORTS, TENSORS
from ingest.stores.clickhouse import open_clickhouse
from ingest.stores.settings import ClickHouseSettings
from tests.api.service.market import client_of, context_of


def ran() -> list[str]:
    """Kernels of ours that this process has called: a call compiles one, or loads it."""
    return sorted(
        f"{name}.{kernel.__name__}"
        for name, module in list(sys.modules.items())
        if name.startswith("compute")
        for kernel in vars(module).values()
        if getattr(kernel, "signatures", None)
    )


def main(directory: Path) -> None:
    with (
        open_clickhouse(ClickHouseSettings(path=directory), "the tests") as store,
        client_of(lambda: context_of(store)) as client,
    ):
        answers = [
            client.post(path, json=body).status_code
            for path, bodies in (
                ("/backtests", BACKTESTS),
                ("/backtests/variant-report", REPORTS),
                ("/indicators/estimate", ESTIMATES),
                ("/indicators/compute", TENSORS),
            )
            for body in bodies.values()
        ]
        answers.append(client.get("/indicators").status_code)
    found = {"answers": answers, "service": ran()}

    from compute.account import entry_fill

    entry_fill(1.0, 1, 0.0)
    print(json.dumps(found | {"after one call": ran()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
