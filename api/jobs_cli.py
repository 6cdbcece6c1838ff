"""`roehub submit` and the commands of `roehub jobs` that talk to a running service."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

import cluster.jobs.cli
from cluster.cli import AsJson, Request, expects_json, speaker

if TYPE_CHECKING:
    from collections.abc import Callable

    from api.client import Client

Record = dict[str, Any]

Api = Annotated[
    str | None,
    typer.Option(
        "--api",
        help="URL of the service; default: ROEHUB_API_URL, else that of `roehub up` here, "
        "else http://127.0.0.1:8000.",
        show_default=False,
    ),
]
Token = Annotated[
    str | None,
    typer.Option(
        "--token",
        help="Access token, or @FILE to read it from, which others on this machine do not see; "
        "default: ROEHUB_TOKEN, the file ROEHUB_TOKEN_FILE, else that of `roehub up` here.",
        show_default=False,
    ),
]
_HEADS = (
    "job", "instrument", "bars", "base variants", "state", "done", "created", "range", "indicators",
)  # fmt: skip
_ID_LETTERS = 36
_MOST_LISTED = 250
JobId = Annotated[str, typer.Argument(help="Id of the job.", metavar="JOB")]


def submit(
    context: typer.Context,
    request: Request,
    follow: Annotated[
        bool, typer.Option("--follow", help="Show its progress, then its table.")
    ] = False,
    key: Annotated[
        str | None,
        typer.Option(help="Idempotency key: sent again with it, the request makes no second job."),
    ] = None,
    api: Api = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Hand a request to a running service as a job.

    With --follow Ctrl-C leaves the job running. Exit codes: 0 done, 1 the job failed or was
    cancelled, or a failure; 2 bad input; 130 Ctrl-C.
    """
    expects_json(context, as_json)
    from cluster.inputs import read_request

    say = speaker(as_json)
    body = read_request(request)
    with _client(api, token) as client:
        job = client.submit(body, key)
        job_id = job["job_id"]
        say(f"job {job_id} is {job['state']} at {client.url}")
        if not follow:
            say(f"follow it: {_again('show', job_id, client)} --follow")
            _print(job, as_json)
            return
        _follow(context, client, job_id, body, as_json)


def listed(
    context: typer.Context,
    state: Annotated[str | None, typer.Option(help="Only those in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=_MOST_LISTED, help="Jobs on a page.")] = 20,
    cursor: Annotated[str | None, typer.Option(help="Where the page before ended.")] = None,
    api: Api = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Your jobs, newest first."""
    expects_json(context, as_json)
    with _client(api, token) as client:
        page = client.page(state, limit, cursor)
    if as_json:
        return _print(page, True)
    if not page["items"]:
        print("no jobs")
        return None
    _print_lines([[*_HEADS], *map(_line, page["items"])])
    if page["next_cursor"]:
        print(f"more: roehub jobs list --limit {limit} --cursor {page['next_cursor']}")
    return None


def show(
    context: typer.Context,
    job_id: JobId,
    follow: Annotated[
        bool, typer.Option("--follow", help="Show its progress, then its table.")
    ] = False,
    api: Api = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """How a job is doing, and why it failed if it did; the beginning of its id will do."""
    expects_json(context, as_json)
    with _client(api, token) as client:
        job_id = _whole(client, job_id)
        job = client.job(job_id)
        if follow:
            return _follow(context, client, job_id, None, as_json)
        if as_json:
            return _print(job, True)
        from api.client import TERMINAL
        from api.following import state_text

        template = client.top(job_id, 1)["report_context"]["template"]
        known = {
            "job": job["job_id"],
            "instrument": _instrument(template["instrument_id"]),
            "timeframe": template["timeframe"],
            "state": state_text(job),
            "stage": None if job["state"] in TERMINAL else job["stage"],
            "done": _share(job),
            "attempt": f"{job['attempt']} of {job['max_attempts']}",
        }
        known |= {name: job[f"{name}_at"] for name in ("created", "started", "finished")}
        if job["state"] == "succeeded":
            known["report"] = client.report_url(job_id)
        _print_lines([[name, str(value)] for name, value in known.items() if value is not None])
    return None  # fmt: skip


def top(
    context: typer.Context,
    job_id: JobId,
    limit: Annotated[int | None, typer.Option(min=1, help="Rows; default: 20.")] = None,
    api: Api = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """The best variants of a job so far."""
    expects_json(context, as_json)
    with _client(api, token) as client:
        found = client.top(job_id, limit if limit or as_json else 20)
        if found["state"] == "succeeded" and not as_json:
            _print_known_cautions(client, job_id)
    if as_json:
        return _print(found, True)
    if not found["items"]:
        yet = " yet" if found["state"] in ("queued", "running") else ""
        print(f"the job is {found['state']} and has no variants{yet}")
        return None
    _print_lines(
        [["rank", "return %", "variant"]]
        + [
            [str(row["rank"]), f"{row['total_return_pct']:,.2f}", variant_text(row["payload"])]
            for row in found["items"]
        ]
    )
    return None


def cancel(
    context: typer.Context,
    job_id: JobId,
    api: Api = None,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Ask a job to stop; ranked rows are kept from its second stage on."""
    expects_json(context, as_json)
    with _client(api, token) as client:
        job = client.cancel(job_id)
    if as_json:
        return _print(job, True)
    stopping = job["state"] == "running"
    print(f"job {job_id} {'stops at its next block' if stopping else 'is ' + job['state']}")
    return None


def delete(context: typer.Context, job_id: JobId, api: Api = None, token: Token = None) -> None:
    """Forget a job that has ended, with its results."""
    with _client(api, token) as client:
        client.delete(job_id)
    print(f"job {job_id} is deleted")


def add_to(app: typer.Typer) -> None:
    """Adds the commands to the group of the runner."""
    app.command("list")(listed)
    for command in (show, top, cancel, delete):
        app.command(command.__name__)(command)


def _whole(client: Client, text: str) -> str:
    """The id of the one job on a page of the list that begins with `text`, else `text`.

    Raises: InvalidInput where there are several.
    """
    from compute.errors import InvalidInput

    if len(text) >= _ID_LETTERS:
        return text
    ids = [job["job_id"] for job in client.page(limit=_MOST_LISTED)["items"]]
    found = [job_id for job_id in ids if job_id.startswith(text.lower())]
    if len(found) > 1:
        raise InvalidInput(f"{len(found)} jobs begin with {text!r}; give more of the id")
    return found[0] if found else text


def _client(url: str | None, token: str | None) -> Client:
    from api.client import Client

    return Client(url, token=token)


def _follow(
    context: typer.Context, client: Client, job_id: str, body: object, as_json: bool
) -> None:
    """Shows a job until its end, then its table and where its report is."""
    from api.following import followed

    told = context.ensure_object(dict)
    told["interrupted"] = (
        f"job {job_id} runs on. Go on watching: {_again('show', job_id, client)} --follow; "
        f"stop it: {_again('cancel', job_id, client)}"
    )
    status = followed(lambda say: client.follow(job_id, say=say)) or client.job(job_id)
    told.pop("interrupted")
    if status["state"] != "succeeded":
        _print(status, as_json)
        if not as_json and client.top(job_id, 1)["items"]:
            print(f"what it found so far: {_again('top', job_id, client)}")
        raise typer.Exit(1)
    result = client.result(job_id)
    if as_json:
        return _print(result, True)
    print_result(result, body, lambda: client.top(job_id))
    print(f"report: {client.report_url(job_id)}")
    return None


def print_result(result: Record, body: object, top: Callable[[], Record]) -> None:
    """The ranked table of a result; `body` is its request if it is at hand, else `top` has it."""
    from cluster.inputs import effective
    from cluster.ranked import print_ranked
    from compute.errors import InvalidInput

    _print_cautions(result)
    if body is None:
        context = top()["report_context"]
        body = {name: context[name] for name in ("time_range", "template", "warmup_bars")}
    try:
        print_ranked(result, effective(body))
    except InvalidInput:  # the service knows it under other settings than this process
        _print_lines(
            [["rank", "return %", "variant"]]
            + [
                [str(rank), f"{row['total_return_pct']:,.2f}", variant_text(row["payload"])]
                for rank, row in enumerate(result["variants"][:20], 1)
            ]
        )


def _print_cautions(result: Record) -> None:
    from cluster.ranked import caution_lines

    for line in caution_lines(caution["message"] for caution in result["cautions"]):
        print(line)


def _print_known_cautions(client: Client, job_id: str) -> None:
    from api.client import Refused

    try:
        result = client.result(job_id)
    except Refused as gone:  # the rows are in the database, the result is a file
        print(f"WARNING: what to know of these rows is not known any more: {gone.message}")
    else:
        _print_cautions(result)


def variant_text(payload: Record) -> str:
    """A variant as one line: indicators with their values, stops."""
    parts = []
    for choice in payload["indicator_selections"]:
        name = choice["indicator_id"]
        values = {**choice["inputs"], **choice["params"], **payload["signal_params"].get(name, {})}
        parts.append(name + "".join(f" {key} {value}" for key, value in values.items()))
    risk = payload["risk_params"]
    stops = [
        f"{side} {risk[f'{side}_pct']:g} %" for side in ("sl", "tp") if risk[f"{side}_enabled"]
    ]
    return ", ".join([*parts, *stops])


def _line(job: Record) -> list[str]:
    """A job in the table of jobs; one that has ended well is in no stage."""
    from api.pages.words import brief, dates
    from compute.quantities import spaced

    course = "100 %" if job["state"] == "succeeded" else f"{job['stage']} {_share(job)}"
    return [
        job["job_id"], _instrument(job["instrument_id"]), job["timeframe"],
        spaced(job["stage_a_variants_total"]), job["state"], course,
        job["created_at"][:19] + "Z", dates(job["time_range"]), brief(job["indicators"]),
    ]  # fmt: skip


def _instrument(instrument_id: Record) -> str:
    return f"{instrument_id['market_id']}:{instrument_id['symbol']}"


def _share(job: Record) -> str:
    done, total = job["processed_units"], job["total_units"]
    return f"{100 * done / total:.0f} %" if total else "–"


def _again(command: str, job_id: str, client: Client) -> str:
    from api.credentials import DEFAULT_URL

    place = "" if client.url == DEFAULT_URL else f" --api {client.url}"
    return f"roehub jobs {command} {job_id}{place}"


def _print(record: Record, as_json: bool) -> None:
    if as_json:
        print(json.dumps(record, allow_nan=False))


def _print_lines(lines: list[list[str]]) -> None:
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    for line in lines:
        cells = (text.ljust(width) for text, width in zip(line, widths, strict=True))
        print("  ".join(cells).rstrip())


add_to(cluster.jobs.cli.app)
