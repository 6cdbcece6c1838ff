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
    """`page` with everything between its markers replaced. Raises: InvalidPage."""
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise InvalidPage(f"the page needs the lines {BEGIN} and {END}")
    return f"{head}{BEGIN}\n\n{measured(record)}\n{END}{tail}"


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
