"""Rewrites `docs/indicators.md` and its pictures from the definitions of the indicators.

    python -m tools.docs.generate_indicator_docs [--check]

The bytes depend on the sources alone. A picture that no indicator has is removed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from compute.indicators.registry import ids, module
from tools.docs.indicator_example import example
from tools.docs.indicator_page import page
from tools.docs.indicator_picture import picture

PAGE: Final = PurePosixPath("docs/indicators.md")
PICTURES: Final = PurePosixPath("docs/indicators")


def files() -> dict[PurePosixPath, str]:
    """Text of the page and of every picture, by path from the repository's root."""
    indicators = [module(indicator_id) for indicator_id in ids()]
    examples = [example(indicator) for indicator in indicators]
    made = {PAGE: page(indicators, examples)}
    for shown in examples:
        made[PICTURES / f"{shown.definition.indicator_id}.svg"] = picture(shown)
    return made


def drift(root: Path, wanted: Mapping[PurePosixPath, str]) -> dict[PurePosixPath, str]:
    """What is wrong with each file that differs: missing, stale, or belonging to no indicator."""
    wrong: dict[PurePosixPath, str] = {}
    for path, text in wanted.items():
        file = root / path
        if not file.is_file():
            wrong[path] = "is missing"
        elif file.read_bytes() != text.encode():
            wrong[path] = "is out-of-date"
    for file in sorted((root / PICTURES).glob("*.svg")):
        if PICTURES / file.name not in wanted:
            wrong[PICTURES / file.name] = "belongs to no indicator"
    return wrong


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 when the files are, or were made, up to date; 1 on drift."""
    parser = argparse.ArgumentParser(prog="python -m tools.docs.generate_indicator_docs")
    parser.description = "Rewrites docs/indicators.md and the pictures beside it."
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 on drift")
    parser.add_argument("--repo-root", type=Path, default=Path.cwd(), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    root: Path = options.repo_root
    if not (root / "docs").is_dir():
        print(f"ERROR: {root} has no docs; run this from the repository's root", file=sys.stderr)
        return 1
    wanted = files()
    wrong = drift(root, wanted)
    if options.check:
        for path, reason in wrong.items():
            print(f"ERROR: {path} {reason}.")
        if wrong:
            print("Run `make docs` and commit the result.")
            return 1
        print(f"OK: {PAGE} and {len(wanted) - 1} pictures are up-to-date.")
        return 0
    for path in wrong:
        _renew(root / path, wanted.get(path))
    print(f"{PAGE} and {len(wanted) - 1} pictures: {len(wrong)} renewed.")
    return 0


def _renew(file: Path, text: str | None) -> None:
    """Writes the file, or removes it where there is no text for it."""
    if text is None:
        file.unlink()
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text.encode())


if __name__ == "__main__":
    sys.exit(main())
