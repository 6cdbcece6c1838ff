from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest

from tools.docs.generate_docs_index import BEGIN, END, INDEX, main, page

HEADER = "# Documentation\n\nEvery page, by kind.\n\n"


def checkout(root: Path, **files: str) -> Path:
    """A repository with the given pages; `__` in a name stands for a slash."""
    for name, text in files.items():
        target = root / "docs" / (name.replace("__", "/") + ".md")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    return root


def call(root: Path, *flags: str) -> int:
    return main([*flags, "--repo-root", str(root)])


def shown(root: Path) -> str:
    return (root / INDEX).read_text(encoding="utf-8")


def test_a_fresh_index_groups_pages_in_the_fixed_order(tmp_path: Path) -> None:
    checkout(
        tmp_path,
        decisions__holdout="# Holdout\n\nRank on the first part.\n",
        architecture__overview="# Overview\n\nThe layers.\n",
        glossary="# Glossary\nTerms.\n",
        guides__first_steps="no heading here\n",
    )

    assert call(tmp_path) == 0

    assert shown(tmp_path) == (
        "# Documentation\n\nEvery page of the project, by kind.\n\n"
        f"{BEGIN}\n\n"
        "### Architecture\n\n"
        "- [Documentation](README.md) — `docs/architecture/README.md`"
        " — Every page of the project, by kind.\n"
        "- [Overview](overview.md) — `docs/architecture/overview.md` — The layers.\n\n"
        "### Runbooks\n\n- _No pages yet._\n\n"
        "### API\n\n- _No pages yet._\n\n"
        "### Decisions\n\n"
        "- [Holdout](../decisions/holdout.md) — `docs/decisions/holdout.md`"
        " — Rank on the first part.\n\n"
        "### Other\n\n"
        "- [Glossary](../glossary.md) — `docs/glossary.md` — Terms.\n"
        "- [first steps](../guides/first_steps.md) — `docs/guides/first_steps.md`\n\n"
        f"{END}\n"
    )


def test_text_around_the_markers_is_kept_and_line_ends_are_made_plain(tmp_path: Path) -> None:
    around = f"{HEADER}Before.\n\n{BEGIN}\nold\n{END}\n\nAfter.\n\n\n"
    checkout(tmp_path, architecture__README=around)
    (tmp_path / INDEX).write_bytes(around.replace("\n", "\r\n").encode())

    assert call(tmp_path, "--check") == 1
    assert call(tmp_path) == 0

    text = (tmp_path / INDEX).read_bytes().decode()
    assert "\r" not in text
    assert text.startswith(f"{HEADER}Before.\n\n{BEGIN}\n")
    assert text.endswith(f"{END}\n\nAfter.\n")
    assert "old" not in text


def test_writing_twice_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkout(tmp_path, runbooks__start="# Start\n\nHow to start.\n")

    assert [call(tmp_path), call(tmp_path)] == [0, 0]

    assert capsys.readouterr().out.splitlines() == [f"Updated: {INDEX}", f"Unchanged: {INDEX}"]


def test_check_reports_drift_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkout(tmp_path, runbooks__start="# Start\n\nHow to start.\n")

    assert call(tmp_path, "--check") == 1
    assert capsys.readouterr().out.startswith(f"ERROR: {INDEX} is out-of-date.\n")
    assert not (tmp_path / INDEX).exists()

    call(tmp_path)
    before = shown(tmp_path)
    checkout(tmp_path, runbooks__stop="# Stop\n\nHow to stop.\n")
    capsys.readouterr()
    assert call(tmp_path, "--check") == 1
    assert capsys.readouterr().out.startswith(f"ERROR: {INDEX} is out-of-date.\n")
    assert shown(tmp_path) == before

    call(tmp_path)
    capsys.readouterr()
    assert call(tmp_path, "--check") == 0
    assert capsys.readouterr().out == f"OK: {INDEX} is up-to-date.\n"


@pytest.mark.parametrize("kept", [BEGIN, END])
def test_without_one_of_the_markers_the_page_is_made_anew(tmp_path: Path, kept: str) -> None:
    checkout(tmp_path, architecture__README=f"# My words\n\n{kept}\n")

    assert call(tmp_path) == 0

    assert "My words" not in shown(tmp_path)
    assert call(tmp_path, "--check") == 0


@pytest.mark.parametrize(
    ("markers", "words"),
    [((END, BEGIN), "in order"), ((BEGIN, BEGIN, END), "once"), ((BEGIN, END, END), "once")],
)
def test_markers_in_the_wrong_order_are_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], markers: tuple[str, ...], words: str
) -> None:
    text = HEADER + "\n".join(markers) + "\n"
    checkout(tmp_path, architecture__README=text)

    assert [call(tmp_path), call(tmp_path, "--check")] == [1, 1]

    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2
    assert all(line.startswith("ERROR: ") and words in line for line in errors)
    assert shown(tmp_path) == text


def test_a_missing_docs_directory_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(tmp_path) == 1
    assert capsys.readouterr().err.startswith("ERROR: ")


def test_hidden_folders_and_caches_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "docs/.drafts").mkdir(parents=True)
    (tmp_path / "docs/.drafts/secret.md").write_text("# Draft\n")
    checkout(tmp_path, __pycache____cached="# Cached\n", runbooks__real="# Real\n\nReal.\n")
    (tmp_path / "docs/__pycache__").mkdir()
    (tmp_path / "docs/__pycache__/cached.md").write_text("# Cached\n")

    call(tmp_path)

    assert "secret.md" not in shown(tmp_path)
    assert "__pycache__" not in shown(tmp_path)
    assert "real.md" in shown(tmp_path)


@pytest.mark.parametrize(
    ("text", "title", "description"),
    [
        ("intro\n\n# Title\n\n\n  First line.  \nSecond.\n", "Title", "First line."),
        ("# Title\n## Section\n\nUnder it.\n", "Title", "Under it."),
        ("# Title\n```sh\n# not a heading\nls\n```\nText.\n", "Title", "Text."),
        ("```\n# comment\n```\n# Title\nText.\n", "Title", "Text."),
        ("# Title\n", "Title", ""),
        ("## Only a section\n", "some page", ""),
        ("", "some page", ""),
    ],
)
def test_title_and_description(text: str, title: str, description: str) -> None:
    read = page(PurePosixPath("docs/runbooks/some-page.md"), text)
    assert (read.title, read.description) == (title, description)


def test_a_link_survives_spaces_and_brackets(tmp_path: Path) -> None:
    (tmp_path / "docs/api").mkdir(parents=True)
    (tmp_path / "docs/api/two words.md").write_text("# List[int]\n\nText.\n")

    call(tmp_path)

    assert r"- [List\[int\]](../api/two%20words.md) — `docs/api/two words.md`" in shown(tmp_path)
