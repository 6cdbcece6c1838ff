"""Holds a Ray cluster of this machine for other processes; a program of its own.

It prints one line of JSON once the cluster runs: `{"address", "token", "dashboard_url"}`. The
cluster ends with it.
"""

from __future__ import annotations

import argparse
import json
import os
import signal


def main() -> None:
    """Starts the cluster, says where it is, waits for SIGTERM or SIGINT."""
    options = argparse.ArgumentParser(prog="python -m api.ray_host")
    options.add_argument("--cpus", type=int)
    options.add_argument("--dashboard", action="store_true")
    chosen = options.parse_args()
    # A stop that comes while Ray starts must still take down what was started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)

    from cluster.ray_session import ray_session

    try:
        with ray_session(None, chosen.cpus, dashboard=chosen.dashboard) as session:
            # Ray takes SIGTERM for itself when it starts.
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            place = {
                "address": session.address,
                "token": os.environ["RAY_AUTH_TOKEN"],
                "dashboard_url": session.dashboard_url,
            }
            print(json.dumps(place), flush=True)
            signal.pause()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
