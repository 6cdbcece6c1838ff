"""The measured part of `docs/benchmarks.md`, rewritten from what a run recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.findings import figure

BEGIN: Final = "<!-- BEGIN MEASURED -->"
END: Final = "<!-- END MEASURED -->"


class InvalidPage(Exception):
    """A page without the two markers."""


def rewritten(page: str, record: Mapping[str, Any]) -> str:
    """`page` with everything between its markers replaced.

    A section with markers of its own, `<!-- BEGIN MEASURED name -->`, is written there, and what
    the page has of the others stays when none of them is in the record. Raises: InvalidPage.
    """
    sections = dict(record["sections"])
    for name in tuple(sections):
        if _marker(BEGIN, name) in page:
            own = {**record, "sections": {name: sections.pop(name)}}
            page = _filled(page, _marker(BEGIN, name), _marker(END, name), own)
    if sections or not record["sections"]:
        page = _filled(page, BEGIN, END, {**record, "sections": sections})
    return page


def _marker(general: str, name: str) -> str:
    return general.replace(" -->", f" {name} -->")


def _filled(page: str, begins: str, ends: str, record: Mapping[str, Any]) -> str:
    head, begin, rest = page.partition(begins)
    _, end, tail = rest.partition(ends)
    if not begin or not end:
        raise InvalidPage(f"the page needs the lines {begins} and {ends}")
    return f"{head}{begins}\n\n{measured(record)}\n{ends}{tail}"


def rewrite(path: Path, record: Mapping[str, Any]) -> None:
    """Rewrites the page at `path`. Raises: InvalidPage, OSError."""
    path.write_text(rewritten(path.read_text(encoding="utf-8"), record), encoding="utf-8")


def measured(record: Mapping[str, Any]) -> str:
    """Machine, goals and tables of a recorded run as Markdown."""
    machine = ", ".join(f"{name} {value}" for name, value in record["machine"].items())
    lines = [f"Measured on: {machine}.", ""]
    sections = record["sections"].values()
    goals = [goal for section in sections for goal in section["goals"]]
    if goals:
        lines += ["### Goals", "", *_goals(goals), ""]
    for section in sections:
        for table in section["tables"]:
            lines += [f"### {table['title']}", "", *_table(table["rows"]), ""]
            if table["note"]:
                lines += [f"{_sentence(table['note'])}", ""]
    return "\n".join(lines)


def _goals(goals: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = [
        {
            "goal": goal["goal"],
            "needed": goal["needed"],
            "measured": f"{figure(goal['measured'])} {goal['unit']}",
            "verdict": goal["verdict"],
        }
        for goal in goals
    ]
    return _table(rows)


def _table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Rows as a Markdown table, numbers to the right."""
    if not rows:
        return ["_Nothing was measured._"]
    names = list(rows[0])
    right = [all(not isinstance(row[name], str) for row in rows) for name in names]
    return [
        _line(names),
        _line("---:" if number else "---" for number in right),
        *(_line(figure(row[name]) for name in names) for row in rows),
    ]


def _line(cells: Any) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def _sentence(note: str) -> str:
    return note[0].upper() + note[1:] + "."
