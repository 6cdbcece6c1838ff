"""The project's own pages: what they link to exists, and they follow the page template."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from tools.docs.generate_docs_index import main

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(ROOT.glob("docs/**/*.md"))
TEXTS = [*PAGES, *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"))]
FENCE = re.compile(r"^(```|~~~).*?^\1\s*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def prose(path: Path) -> str:
    return FENCE.sub("", path.read_text(encoding="utf-8"))


def anchors(path: Path) -> set[str]:
    """Fragments of the page's headings, as code hosts make them."""
    headings = re.findall(r"^#+ (.+?)\s*$", prose(path), re.MULTILINE)
    kept = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in kept}


@pytest.mark.parametrize("path", TEXTS, ids=name)
def test_every_relative_link_leads_somewhere(path: Path) -> None:
    broken: list[str] = []
    for link in LINK.findall(prose(path)):
        if re.match(r"[a-z]+:", link):
            continue
        target, _, fragment = unquote(link).partition("#")
        file = (path.parent / target).resolve() if target else path
        if not file.exists() or (fragment and fragment not in anchors(file)):
            broken.append(link)
    assert not broken


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_a_page_has_one_title_and_a_summary_line(path: Path) -> None:
    lines = [line for line in prose(path).splitlines() if line.strip()]
    assert lines[0].startswith("# ")
    assert not lines[1].startswith(("#", "-", "|", "<"))
    assert sum(line.startswith("# ") for line in lines) == 1
    assert path.name == "README.md" or re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*\.md", path.name)


def test_the_index_is_up_to_date() -> None:
    assert main(["--check", "--repo-root", str(ROOT)]) == 0
