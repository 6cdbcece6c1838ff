"""What a benchmark found: tables, and goals with what was measured against them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["at least", "at most"]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under named columns; `note` says how to read them."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    note: str = ""

    def records(self) -> list[dict[str, Any]]:
        """One dict a row."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


@dataclass(frozen=True, slots=True)
class Goal:
    """A number that has to be reached; without `measured` it was not tried, `why` says why.

    With `judged` False the sizes were cut: the number is shown, and no verdict.
    """

    name: str
    kind: Kind
    limit: float
    measured: float | None
    unit: str = "×"
    why: str = ""
    judged: bool = True

    @property
    def met(self) -> bool | None:
        """Whether it was reached; None where there is no verdict."""
        if self.measured is None or not self.judged:
            return None
        return (
            self.measured >= self.limit if self.kind == "at least" else self.measured <= self.limit
        )

    @property
    def verdict(self) -> str:
        """`met`, `MISSED`, or why there is no verdict."""
        if self.met is None:
            return self.why or ("cut sizes, not judged" if not self.judged else "not measured")
        return "met" if self.met else "MISSED"

    def record(self) -> dict[str, Any]:
        """The goal as JSON."""
        return {
            "goal": self.name,
            "needed": f"{self.kind} {figure(self.limit)} {self.unit}".strip(),
            "limit": self.limit,
            "measured": self.measured,
            "unit": self.unit,
            "met": self.met,
            "verdict": self.verdict,
        }


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything one section measured."""

    section: str
    tables: list[Table] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        """The findings as JSON."""
        return {
            "tables": [
                {"title": table.title, "note": table.note, "rows": table.records()}
                for table in self.tables
            ],
            "goals": [goal.record() for goal in self.goals],
        }


def missed(goals: list[Goal]) -> list[Goal]:
    """The goals that were measured and not reached."""
    return [goal for goal in goals if goal.met is False]


def figure(value: Any) -> str:
    """A number as people read it: three significant digits, thousands apart."""
    if value is None:
        return "–"
    if not isinstance(value, float):
        return f"{value:,}".replace(",", " ") if isinstance(value, int) else str(value)
    if not abs(value) < float("inf"):
        return str(value)
    if abs(value) >= 1000:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.3g}"
