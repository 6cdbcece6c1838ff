"""Rewrites the index of `docs/architecture/README.md` from the pages under `docs/`.

    python -m tools.docs.generate_docs_index [--check]

A page's title is its first H1, its description the first line below it. Links are relative to the
index page, so that they work where they are read.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os.path import relpath
from pathlib import Path, PurePosixPath
from urllib.parse import quote

INDEX = PurePosixPath("docs/architecture/README.md")
BEGIN = "<!-- BEGIN GENERATED DOCS INDEX -->"
END = "<!-- END GENERATED DOCS INDEX -->"
GROUPS = {
    "architecture": "Architecture",
    "runbooks": "Runbooks",
    "api": "API",
    "decisions": "Decisions",
    "other": "Other",
}
EMPTY_GROUP = "- _No pages yet._"
DEFAULT_HEADER = "# Documentation\n\nEvery page of the project, by kind.\n"


class InvalidIndex(Exception):
    """An index that cannot be made; the message says what to mend."""


@dataclass(frozen=True, slots=True)
class Page:
    """One Markdown page; `path` is relative to the repository's root."""

    path: PurePosixPath
    title: str
    description: str

    @property
    def group(self) -> str:
        """First folder under `docs`, or `other`."""
        folder = self.path.parts[1] if len(self.path.parts) > 2 else "other"
        return folder if folder in GROUPS else "other"

    @property
    def line(self) -> str:
        """The page's bullet in the index."""
        title = self.title.replace("[", "\\[").replace("]", "\\]")
        link = quote(relpath(self.path, INDEX.parent))
        tail = f" — {self.description}" if self.description else ""
        return f"- [{title}]({link}) — `{self.path}`{tail}"


def pages(root: Path) -> list[Page]:
    """All pages under `docs` but the index itself; hidden folders and caches are left out.

    Raises InvalidIndex when there is no `docs` directory.
    """
    docs = root / "docs"
    if not docs.is_dir():
        raise InvalidIndex(f"{docs} is not a directory; run this from the repository's root")
    paths = (PurePosixPath(path.relative_to(root).as_posix()) for path in docs.rglob("*.md"))
    return [
        page(path, (root / path).read_text(encoding="utf-8"))
        for path in paths
        if path != INDEX
        and not any(part.startswith(".") or part == "__pycache__" for part in path.parts)
    ]


def page(path: PurePosixPath, text: str) -> Page:
    """The page's title and description, read from its text."""
    lines = list(_prose(text))
    heading = next((i for i, line in enumerate(lines) if line.startswith("# ")), None)
    title = "" if heading is None else lines[heading][2:].strip()
    below = [] if heading is None else lines[heading + 1 :]
    description = next((line.strip() for line in below if line.strip() and line[0] != "#"), "")
    fallback = path.stem.replace("-", " ").replace("_", " ")
    return Page(path, title or fallback, description)


def block(shown: Sequence[Page]) -> str:
    """The generated part, markers included."""
    sections: list[str] = []
    for group, title in GROUPS.items():
        lines = [item.line for item in shown if item.group == group] or [EMPTY_GROUP]
        sections.append(f"### {title}\n\n" + "\n".join(lines))
    return "\n\n".join([BEGIN, *sections, END])


def index(text: str, others: Sequence[Page]) -> str:
    """The index page with its generated part renewed; without both markers, a page made anew.

    Raises InvalidIndex when the markers are doubled or stand in the wrong order.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if BEGIN not in text or END not in text:
        text = f"{DEFAULT_HEADER}\n{BEGIN}\n{END}\n"
    if text.count(BEGIN) > 1 or text.count(END) > 1:
        raise InvalidIndex(f"{INDEX}: each marker must stand once; remove the doubled one")
    if text.index(END) < text.index(BEGIN):
        raise InvalidIndex(f"{INDEX}: `{END}` stands before `{BEGIN}`; put them in order")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    shown = sorted([*others, page(INDEX, before + after)], key=lambda item: str(item.path))
    return (before + block(shown) + after).rstrip("\n") + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 when the index is, or was made, up to date; 1 on drift or an error."""
    parser = argparse.ArgumentParser(prog="python -m tools.docs.generate_docs_index")
    parser.description = "Rewrites the generated index of docs/architecture/README.md."
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 on drift")
    parser.add_argument("--repo-root", type=Path, default=Path.cwd(), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    root: Path = options.repo_root
    target = root / INDEX
    try:
        # Bytes, not text mode: a stray carriage return is drift too.
        current = target.read_bytes().decode("utf-8") if target.exists() else ""
        wanted = index(current, pages(root))
    except (InvalidIndex, OSError, UnicodeDecodeError) as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 1
    if options.check:
        if current != wanted:
            print(f"ERROR: {INDEX} is out-of-date.")
            print("Run `python -m tools.docs.generate_docs_index` and commit the result.")
            return 1
        print(f"OK: {INDEX} is up-to-date.")
        return 0
    if current == wanted:
        print(f"Unchanged: {INDEX}")
        return 0
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(wanted.encode("utf-8"))
    print(f"Updated: {INDEX}")
    return 0


def _prose(text: str) -> Iterator[str]:
    """The lines outside code fences."""
    fence = ""
    for line in text.splitlines():
        mark = line.lstrip()[:3]
        if mark in ("```", "~~~"):
            fence = "" if fence == mark else fence or mark
        elif not fence:
            yield line


if __name__ == "__main__":
    sys.exit(main())
