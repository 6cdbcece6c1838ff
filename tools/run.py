"""Runs the project's jobs from a bare checkout: makes `.venv` once, then starts the job inside it.

    python3 -m tools.run demo|test|lint|soak|bench|ptx|setup [arguments of the job]

Standard library only, since it runs before anything is installed. The environment is stamped with
what it was made from (lock, Python, place); another stamp, or one left unfinished, means that it
is made again.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[1]
OLDEST, NEWEST = (3, 11), (3, 13)
Child = subprocess.Popen[bytes]
INSTALL_BYTES = 2_000_000_000  # 1.4 GB installed, and room for one download

PACKAGES = ("api", "cluster", "compute", "configs", "ingest", "live")
LINT: tuple[tuple[str, ...], ...] = (
    ("ruff", "check", "."),
    ("ruff", "format", "--check", "."),
    ("pyright",),
    ("lint-imports", "--no-logo"),
    ("bandit", "-q", "-c", "pyproject.toml", "-ll", "-ii", "-r", *PACKAGES),
    ("python", "-m", "tools.docs.generate_docs_index", "--check"),
    ("python", "-m", "tools.docs.generate_indicator_docs", "--check"),
)
# One process more than cores, for tests wait for servers, browsers and Ray; see tests/conftest.py.
SPREAD = ("-n", str(min(4, (os.cpu_count() or 1) + 1)), "--no-loadscope-reorder")
JOBS: dict[str, tuple[tuple[str, ...], ...]] = {
    "setup": (),
    "demo": (("python", "-m", "api.cli", "demo", "--out", "out/demo"),),
    "test": (("python", "-m", "pytest", *SPREAD),),
    "lint": LINT,
    "soak": (("python", "-m", "pytest", "-m", "soak"),),
    "bench": (("python", "-m", "api.cli", "bench"),),
    "ptx": (("python", "-m", "tools.ptx"),),
}
BESIDE = {"test": ("python", "-m", "tools.run", "lint")}
"""What runs beside a job, in the time that it leaves; told when the job has ended."""
_GIVES_WAY = 10  # niceness


class SetupError(Exception):
    """A set-up that cannot go on; the message says what is wrong and what to do."""


def unsupported(version: tuple[int, int], system: str, machine: str) -> str | None:
    """Why the locked environment cannot be made on this interpreter and platform, or None."""
    if not OLDEST <= version <= NEWEST:
        others = [f"python3.{minor}" for minor in range(NEWEST[1], OLDEST[1] - 1, -1)]
        found = [name for name in others if shutil.which(name)]
        cure = f"run it as `{found[0]} -m tools.run …`" if found else "install one of them"
        return f"Python 3.11, 3.12 or 3.13 is needed, this is {version[0]}.{version[1]}; {cure}"
    if (system, machine) != ("Linux", "x86_64"):
        return (
            f"the locked packages are for Linux on x86_64, this is {system} on {machine}; "
            "make an environment of your own and run `pip install -e '.[dev]'` in it"
        )
    return None


def wanted_stamp(root: Path) -> dict[str, str]:
    """What an environment of this checkout is made from; equal stamps need no work."""
    return {
        "lock": _sha256(root / "requirements.txt"),
        "project": _sha256(root / "pyproject.toml"),
        "python": platform.python_version(),
        "root": str(root),
    }


def read_stamp(venv: Path) -> dict[str, str] | None:
    """The stamp of a finished environment; {} when unfinished, None when it is not ours."""
    try:
        return dict(json.loads((venv / "roehub.json").read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except ValueError:
        return {}


def pinned(lock: str, name: str) -> str:
    """The lines of one package in the lock: its pin and its hashes."""
    lines = lock.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith(f"{name}=="))
    last = first
    while lines[last].endswith("\\"):
        last += 1
    return "\n".join(lines[first : last + 1]) + "\n"


def diagnosis(output: str) -> str:
    """What to do about a failed installation, judged by the installer's own words."""
    words = output.lower()
    if "no space left" in words:
        return "the disk is full; free 2 GB and try again"
    if "do not match the hashes" in words or "hash mismatch" in words:
        return (
            "the package index served a file that is not the locked one; try another index, "
            "and do not install from this one"
        )
    unreachable = (
        "name resolution", "connection refused", "connection broken", "newconnectionerror",
        "max retries", "timed out", "network is unreachable", "proxyerror", "certificate",
        "could not find a version", "no matching distribution",
    )  # fmt: skip
    if any(word in words for word in unreachable):
        return (
            "the package index did not answer or lacks a package; check the network, the proxy "
            "(HTTPS_PROXY) and pip's index settings (`python3 -m pip config list`)"
        )
    return "the lines above are the installer's own; mend what they name and try again"


def environment(root: Path) -> Path:
    """The environment's directory of programs, made or completed first when it has to be.

    Raises SetupError; one process at a time works on the environment, others wait.
    """
    problem = unsupported(sys.version_info[:2], platform.system(), platform.machine())
    if problem:
        raise SetupError(problem)
    venv = root / ".venv"
    programs = venv / "bin"
    with _alone(root):
        wanted, found = wanted_stamp(root), read_stamp(venv)
        if found == wanted and (programs / "python").exists():
            return programs
        if found is None and venv.exists() and any(venv.iterdir()):
            raise SetupError(f"{venv} was not made by tools.run; move it away and try again")
        started = time.monotonic()
        same = found and {**found, "project": wanted["project"]} == wanted
        if not (same and (programs / "python").exists()):
            _make(root, venv)
        installed(programs, "--no-deps", "--no-build-isolation", "--editable", str(root))
        (venv / "roehub.json").write_text(json.dumps(wanted, indent=1), encoding="utf-8")
        _say(f"environment ready in {time.monotonic() - started:.0f} s")
    return programs


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status of the job; 1 when the environment cannot be made, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python3 -m tools.run", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("job", choices=sorted(JOBS))
    parser.add_argument("rest", nargs=argparse.REMAINDER, help="handed to the job's last command")
    options = parser.parse_args(arguments)
    try:
        programs = environment(ROOT)
    except SetupError as error:
        _say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        _say("stopped; the next run starts the environment afresh")
        return 130
    return run(JOBS[options.job], programs, options.rest, BESIDE.get(options.job, ()))


def run(
    commands: Sequence[Sequence[str]],
    programs: Path,
    rest: Sequence[str],
    beside: Sequence[str] = (),
) -> int:
    """Exit status of the first failure, after all commands have run; 130 when interrupted.

    `rest` is handed to the last of `commands`; the one `beside` them runs meanwhile.
    """
    failures: list[tuple[str, int]] = []
    several = len(commands) + bool(beside) > 1
    with _beside(beside, programs) as other:
        for number, command in enumerate(commands):
            line = [*command, *rest] if number == len(commands) - 1 else list(command)
            if several:
                _say("$ " + " ".join(line))
            status = _waited(_start(line, programs))
            if status in (130, -2):
                return 130
            if status:
                failures.append((" ".join(command), status))
        if other is not None:
            _say("$ " + " ".join(beside))
            status = _waited(other)
            if status in (130, -2):
                return 130
            if status:
                failures.append((" ".join(beside), status))
    if failures and several:
        _say("failed: " + ", ".join(name for name, _ in failures))
    return failures[0][1] if failures else 0


def _start(line: Sequence[str], programs: Path, output: IO[bytes] | None = None) -> Child:
    """A child in the environment; one that writes to `output`, not our terminal, gives way."""
    env = {**os.environ, "VIRTUAL_ENV": str(programs.parent)}
    env["PATH"] = f"{programs}{os.pathsep}{env.get('PATH', os.defpath)}"
    env.pop("PYTHONHOME", None)
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # else each of many processes compiles what it imports
    sys.stdout.flush()
    program = [str(programs / line[0]), *line[1:]]
    return subprocess.Popen(
        program, cwd=ROOT, env=env, stdout=output, stderr=output,
        preexec_fn=None if output is None else lambda: os.nice(_GIVES_WAY),
    )  # fmt: skip


@contextlib.contextmanager
def _beside(line: Sequence[str], programs: Path) -> Generator[Child | None]:
    """A child whose output is passed on at the end."""
    if not line:
        yield None
        return
    with tempfile.TemporaryFile() as output:
        child = _start(line, programs, output)
        try:
            yield child
        finally:
            _waited(child)
            output.seek(0)
            shutil.copyfileobj(output, sys.stderr.buffer)
            sys.stderr.flush()


def _waited(child: Child) -> int:
    """Exit status of a child; Ctrl-C is left to it, and waited for."""
    while True:
        try:
            return child.wait()
        except KeyboardInterrupt:
            continue  # the terminal sent it to the child too, which is stopping in its own way


def _make(root: Path, venv: Path) -> None:
    """Makes `.venv` with every package of the lock; the stamp is unfinished until the caller's."""
    if shutil.disk_usage(root).free < INSTALL_BYTES:
        raise SetupError(f"the environment needs 2 GB in {root}; free some space and try again")
    _say(f"making {venv.name} with Python {platform.python_version()} (once, about a minute)")
    try:
        shutil.rmtree(venv, ignore_errors=True)
        venv.mkdir(exist_ok=True)
        (venv / "roehub.json").write_text("{}", encoding="utf-8")
    except OSError as error:
        raise SetupError(
            f"cannot write in {root} ({error.strerror}); clone the project where you may write"
        ) from error
    checked([*creator(), str(venv)], "could not make the environment")
    programs = venv / "bin"
    lock = root / "requirements.txt"
    locked = ("--require-hashes", "--only-binary", ":all:")
    with tempfile.NamedTemporaryFile("w", suffix=".txt", dir=venv) as first:
        first.write(pinned(lock.read_text(encoding="utf-8"), "uv"))
        first.flush()
        installed(programs, *locked, "--requirement", first.name)
    fast = [str(programs / "uv"), "pip", "install", "--quiet", "--python", str(programs / "python")]
    done = subprocess.run(
        [*fast, *locked, "--requirement", str(lock)],
        cwd=root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:  # uv does not read pip's settings: mirrors and certificates may be there
        _say("uv could not install the lock, pip takes over")
        installed(programs, *locked, "--requirement", str(lock))


def creator() -> list[str]:
    """The command that makes a virtual environment in the directory given next."""
    # Inside an environment the interpreter may be the one about to be removed: take its parent.
    python = getattr(sys, "_base_executable", None) or sys.executable
    if importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip"):
        return [python, "-m", "venv"]
    if importlib.util.find_spec("virtualenv"):
        return [sys.executable, "-m", "virtualenv", "--quiet", "--python", python]
    program = shutil.which("virtualenv")
    if program:
        return [program, "--quiet", "--python", python]
    raise SetupError(
        "this Python has neither venv nor virtualenv; install one "
        f"(Debian, Ubuntu: `apt install python3.{sys.version_info[1]}-venv`; "
        "else `python3 -m pip install --user virtualenv`)"
    )


def installed(programs: Path, *arguments: str) -> None:
    """Installs packages into an environment. Raises: SetupError."""
    pip = [str(programs / "python"), "-m", "pip", "install", "--quiet", "--no-input"]
    checked([*pip, "--disable-pip-version-check", *arguments], "could not install the packages")


def checked(command: Sequence[str], failure: str) -> None:
    """Runs an installer silently; SetupError with its last lines and the cure when it fails."""
    env = {**os.environ, "PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0"}
    env.pop("PYTHONHOME", None)
    done = subprocess.run(
        command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        tail = "\n".join(done.stdout.strip().splitlines()[-8:])
        raise SetupError(f"{failure}\n{tail}\n{diagnosis(done.stdout)}")


@contextlib.contextmanager
def _alone(root: Path) -> Generator[None]:
    """Holds the checkout's environment for this process; the directory itself is the lock."""
    import fcntl  # absent outside POSIX, where `unsupported` has already answered

    handle = os.open(root, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("another tools.run is preparing the environment; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
