"""A job and a run within a request, searched on a card, leave what the processor leaves."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from api.errors import status_of
from api.sync_tasks import BacktestTask
from cluster.executors import opened
from compute.backtest import resolve
from compute.control import Control, silent
from compute.cuda.card import card_here
from compute.cuda.memory import CardMemory, held
from compute.executor import LocalExecutor
from compute.market.timeframe import TIMEFRAMES
from compute.request import parse_request
from compute.settings import Defaults
from ingest.synthetic import synthetic_candles
from tests.cluster.jobs.running import (
    LIMITS,
    Looking,
    judge,
    runner_thread,
    submit,
    until,
)
from tests.cluster.problems import DAY_MS, START_MS, request


def test_a_job_leaves_the_files_and_rows_of_the_processor(database: str, tmp_path: Path) -> None:
    """Result, shortlist, top and columns, to the byte, through the runner and its database."""
    body = request(windows=2, periods=2, preselect=3)
    [job_id] = submit(database, tmp_path, body)
    on_card = partial(opened, "local", None, 1, "cuda", print)
    with runner_thread(database, tmp_path, on_card), Looking(database) as looking:
        until(looking.ended)
    assert judge(database, job_id, body)["device"] == "cuda (simulator)"


def run_within_a_request(device: str) -> dict[str, Any]:
    """What a service answers that is set to `device`."""
    body = request(windows=2, periods=2, preselect=3, warmup_bars=10)
    body["time_range"]["end"] = "2026-01-03T00:00:00Z"
    frame = TIMEFRAMES["1m"]
    begin_ms, bars = START_MS - DAY_MS, 3 * DAY_MS // frame.ms
    candles = synthetic_candles(seed=3, bars=bars, frame=frame, start_ms=begin_ms)
    job = resolve(parse_request(body), Defaults())
    task = BacktestTask(job, LIMITS, {"mode": "template"}, reports=True, device=device)
    with LocalExecutor(1) as executor:
        return task.result(candles, executor, Control(), silent)


def test_a_run_within_a_request_follows_the_setting() -> None:
    answers = {device: run_within_a_request(device) for device in ("cpu", "cuda", "auto")}
    with held(card_here().lock, None):
        answers["busy"] = run_within_a_request("auto")
    searched = {name: answer.pop("run")["device"] for name, answer in answers.items()}
    card = "cuda (simulator)"
    assert searched == {"cpu": "cpu", "cuda": card, "auto": card, "busy": "cpu"}
    assert all(answer == answers["cpu"] for answer in answers.values())
    assert len(answers["cpu"]["variants"]) == 20


def test_a_card_that_is_too_small_is_a_matter_of_the_service(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("compute.cuda.card.SIMULATED_BYTES", 0)
    monkeypatch.setattr("compute.cuda.card.SimulatedCard.free_bytes", lambda self: 1_000)
    with pytest.raises(CardMemory, match="one variant alone needs") as caught:
        run_within_a_request("cuda")
    assert status_of(caught.value) == 503
