"""The report page: one HTML file that needs nothing but itself."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from compute.cautions import GENERATED
from compute.quantities import sentence
from compute.report.document import Document
from compute.report.facts import heading, sections
from compute.report.format import NOT_AVAILABLE, read_text
from compute.report.ranked import hold_pct, ranked_table, silence
from compute.report.rows import METRICS

_MARK = re.compile(r"\{\{(\w+)\}\}")


def report_page(document: Document) -> str:
    """The whole page as text; style, scripts and data are inside, every text is escaped.

    A content security policy lets only the page's own script and style run, by their hashes.
    """
    title, venue = heading(document)
    style = _part("page.css")
    script = "\n".join(_part(name) for name in ("scales.js", "charts.js", "page.js"))
    return _filled(
        _part("page.html"),
        {
            "title": html.escape(f"{title} back-test"),
            "heading": html.escape(title),
            "venue": html.escape(f"{venue}, grid back-test"),
            "style": style,
            "style_hash": _hash(style),
            "script": script,
            "script_hash": _hash(script),
            "data": json_for_html(_data(document)),
            "notices": _notices(document),
        },
    )


def _notices(document: Document) -> str:
    """Paragraphs of what to know first."""
    found = []
    if document["generated"]:
        found.append(("SYNTHETIC DATA.", GENERATED.message))
    if why := silence(document["result"], document["ranking"].get("min_trades") or 0):
        found.append(("NOTHING TRADES." if "ever trades" in why else "NOTHING RANKED.", why))
    for caution in document["result"].get("cautions") or ():
        if caution["code"] != GENERATED.code:  # the first notice says so
            found.append(("CAUTION.", caution["message"]))
    texts = ((html.escape(title), html.escape(sentence(text))) for title, text in found)
    return "\n  ".join(
        f'<p class="notice"><strong>{title}</strong> {text}</p>' for title, text in texts
    )


def json_for_html(value: Any) -> str:
    """JSON that cannot leave a script element; NaN and infinities become null."""
    text = json.dumps(_plain(value), separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _data(document: Document) -> dict[str, Any]:
    variants: Sequence[Mapping[str, Any]] = document["result"].get("variants") or ()
    held = document["result"].get("holdout")
    return {
        "table": ranked_table(variants),
        "sections": sections(document),
        "ranking": document["ranking"],
        "metrics": METRICS,
        "reports": [_values(variant.get("report")) for variant in variants],
        "holdout": held,
        "holdout_hold_pct": hold_pct(variants[0], held_out=True) if variants else None,
        "holdout_reports": [
            _values((variant.get("holdout") or {}).get("report")) for variant in variants
        ]
        if held
        else [],
        "market": document["market"],
        "curves": document["curves"],
        "idle_axes": document["idle_axes"],
        "surface": document["surface"],
        "surface_note": document["surface_note"],
    }


def _values(report: Mapping[str, Any] | None) -> list[tuple[str, str]] | None:
    """(as it is read, exact) of a report's rows in the fixed order."""
    if not report or not report.get("rows"):
        return None
    values = {row["metric"]: row["value"] for row in report["rows"] if row["value"] is not None}
    texts = [(metric, str(values.get(metric, NOT_AVAILABLE))) for metric in METRICS]
    return [(read_text(metric, text), text) for metric, text in texts]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _filled(template: str, values: Mapping[str, str]) -> str:
    # One pass: a value that looks like a mark is text, never filled in itself.
    return _MARK.sub(lambda mark: values[mark[1]], template)


def _part(name: str) -> str:
    return resources.files("compute.report").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
