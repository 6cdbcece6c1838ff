from __future__ import annotations

import ast
import importlib.util
import json
import re
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest

from tools import run

ROOT = Path(__file__).resolve().parents[2]
LOCK = (ROOT / "requirements.txt").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


class Installer:
    """Counts what `environment` asks for instead of doing it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made = 0
        self.installed: list[Sequence[str]] = []
        monkeypatch.setattr(run, "_make", self.make)
        monkeypatch.setattr(run, "installed", self.pip)

    def make(self, root: Path, venv: Path) -> None:
        self.made += 1
        (venv / "bin").mkdir(parents=True, exist_ok=True)
        (venv / "bin/python").touch()
        (venv / "roehub.json").write_text("{}")

    def pip(self, programs: Path, *arguments: str) -> None:
        self.installed.append(arguments)


@pytest.fixture
def installer(monkeypatch: pytest.MonkeyPatch) -> Installer:
    return Installer(monkeypatch)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "requirements.txt").write_text("one==1\n")
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    return tmp_path


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """Programs `pass`, `fail` and `note`; the last one appends its arguments to a file."""
    directory = tmp_path / "bin"
    directory.mkdir()
    bodies = {
        "pass": "exit 0",
        "fail": "exit 3",
        "note": f'echo "$@" >> {tmp_path}/noted',
        "wrong": "echo it is wrong; nice; exit 4",
        "bytecode": 'exit "${PYTHONDONTWRITEBYTECODE-0}"',
    }
    for name, body in bodies.items():
        (directory / name).write_text(f"#!/bin/sh\n{body}\n")
        (directory / name).chmod(0o755)
    return directory


def test_it_needs_only_the_standard_library() -> None:
    tree = ast.parse(Path(run.__file__).read_text(encoding="utf-8"))
    names = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert names <= sys.stdlib_module_names


def test_an_old_python_is_told_which_to_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run.shutil, "which", lambda name: name if name == "python3.12" else None)
    message = run.unsupported((3, 9), "Linux", "x86_64")
    assert message
    assert "this is 3.9" in message
    assert "`python3.12 -m tools.run" in message
    assert run.unsupported((3, 14), "Linux", "x86_64")


def test_another_platform_is_told_how_to_go_on() -> None:
    message = run.unsupported((3, 12), "Darwin", "arm64")
    assert message
    assert "Darwin on arm64" in message
    assert "pip install -e" in message


@pytest.mark.parametrize("minor", [11, 12, 13])
def test_the_supported_pythons(minor: int) -> None:
    assert run.unsupported((3, minor), "Linux", "x86_64") is None
    assert f"Programming Language :: Python :: 3.{minor}" in PROJECT["classifiers"]


def test_an_environment_is_made_once(checkout: Path, installer: Installer) -> None:
    assert run.environment(checkout) == checkout / ".venv/bin"
    assert run.environment(checkout) == checkout / ".venv/bin"
    assert installer.made == 1
    assert len(installer.installed) == 1
    assert "--no-deps" in installer.installed[0]


def test_an_interrupted_environment_is_made_again(
    checkout: Path, installer: Installer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(programs: Path, *arguments: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "installed", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run.environment(checkout)
    monkeypatch.setattr(run, "installed", installer.pip)

    run.environment(checkout)

    assert installer.made == 2


def test_another_lock_makes_another_environment(checkout: Path, installer: Installer) -> None:
    run.environment(checkout)
    (checkout / "requirements.txt").write_text("one==2\n")
    run.environment(checkout)
    assert installer.made == 2


def test_another_project_file_only_installs_the_project(
    checkout: Path, installer: Installer
) -> None:
    run.environment(checkout)
    (checkout / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    run.environment(checkout)
    assert installer.made == 1
    assert len(installer.installed) == 2


def test_a_foreign_environment_is_left_alone(checkout: Path, installer: Installer) -> None:
    (checkout / ".venv").mkdir()
    (checkout / ".venv/pyvenv.cfg").touch()
    with pytest.raises(run.SetupError, match="move it away"):
        run.environment(checkout)
    assert installer.made == 0


def test_a_directory_that_cannot_be_written_is_named(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(run.SetupError, match=r"Permission denied.*clone the project where"):
        run.environment(checkout)


def test_a_full_disk_is_found_before_anything_is_installed(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "INSTALL_BYTES", 1 << 62)
    with pytest.raises(run.SetupError, match="needs 2 GB"):
        run.environment(checkout)
    assert not (checkout / ".venv").exists()


def test_a_python_without_venv_is_told_what_to_install(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(run.shutil, "which", lambda name: None)
    with pytest.raises(run.SetupError, match="neither venv nor virtualenv"):
        run.environment(checkout)


def test_virtualenv_stands_in_for_venv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: object() if name != "ensurepip" else None
    )
    assert run.creator()[:3] == [sys.executable, "-m", "virtualenv"]


def test_a_failed_installation_shows_its_words_and_the_cure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script = "import sys; sys.exit('ERROR: Could not find a version that satisfies x')"
    with pytest.raises(run.SetupError) as caught:
        run.checked([sys.executable, "-c", script], "could not install the packages")
    assert "satisfies x" in str(caught.value)
    assert "package index did not answer" in str(caught.value)


@pytest.mark.parametrize(
    ("output", "cure"),
    [
        ("NewConnectionError: [Errno -3] Temporary failure in name resolution", "network"),
        ("THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE", "not the locked one"),
        ("OSError: [Errno 28] No space left on device", "disk is full"),
        ("something else", "installer's own"),
    ],
)
def test_diagnosis(output: str, cure: str) -> None:
    assert cure in run.diagnosis(output)


def test_all_steps_run_and_the_first_failure_is_the_status(
    programs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    status = run.run((("pass",), ("fail", "a"), ("note", "b")), programs, ["-k", "c"])
    assert status == 3
    assert (tmp_path / "noted").read_text() == "b -k c\n"
    assert "failed: fail a" in capfd.readouterr().err


def test_what_runs_beside_is_told_at_the_end_and_counts(
    programs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run.run((("note", "a"),), programs, ["b"], ("wrong",)) == 4
    assert (tmp_path / "noted").read_text() == "a b\n"
    found = capfd.readouterr()
    assert found.err == "$ note a b\n$ wrong\nit is wrong\n10\nfailed: wrong\n"
    assert found.out == ""
    assert run.run((("fail",),), programs, [], ("wrong",)) == 3
    assert run.run((("pass",),), programs, [], ("pass",)) == 0


def test_processes_of_a_job_keep_what_they_compiled(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    assert run.run((("bytecode",),), programs, []) == 0


def test_the_setup_error_is_one_message_and_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(root: Path) -> Path:
        raise run.SetupError("no luck; try again")

    monkeypatch.setattr(run, "environment", fail)
    assert run.main(["setup"]) == 1
    assert capsys.readouterr().err == "error: no luck; try again\n"


def test_an_unreadable_stamp_counts_as_unfinished(tmp_path: Path) -> None:
    assert run.read_stamp(tmp_path) is None
    (tmp_path / "roehub.json").write_text('{"lock":')
    assert run.read_stamp(tmp_path) == {}
    (tmp_path / "roehub.json").write_text(json.dumps({"lock": "x"}))
    assert run.read_stamp(tmp_path) == {"lock": "x"}


def test_every_locked_package_is_pinned_with_hashes() -> None:
    pins = [line for line in LOCK.splitlines() if re.match(r"[A-Za-z0-9]", line)]
    names = [pin.split("==")[0] for pin in pins]
    assert len(set(names)) == len(names) >= 60
    for name in names:
        assert re.match(rf"{re.escape(name)}==\S+.*\\\n    --hash=sha256:", run.pinned(LOCK, name))


def test_the_lock_names_no_index() -> None:
    assert "://" not in LOCK
    assert not re.search(r"^\s*-", LOCK.replace("    --hash=", ""), re.MULTILINE)


def test_the_lock_covers_the_declared_packages() -> None:
    declared = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]
    wanted = {re.split(r"[^\w.-]", item)[0].lower() for item in declared}
    assert wanted <= set(re.findall(r"^([\w.-]+)==", LOCK, re.MULTILINE))


def test_numpy_stays_where_python_3_11_can_follow() -> None:
    pin = re.search(r"^numpy==2\.(\d+)\.", LOCK, re.MULTILINE)
    assert pin
    assert int(pin[1]) < 5


def test_ci_runs_the_command_of_the_readme() -> None:
    command = "python3 -m tools.run test"
    assert command in (ROOT / ".ci/run").read_text(encoding="utf-8")
    assert command in (ROOT / "README.md").read_text(encoding="utf-8")
