"""Compiles the kernels for cards, in an environment of their own with the cuda extra; no card.

    python3 -m tools.run ptx

That of the checkout stays as the lock has it: numba-cuda takes the place of a part of Numba.
"""

from __future__ import annotations

import os
import subprocess
import sys

from tools.run import ROOT, SetupError, checked, creator, installed

TESTS = ("tests/compute/cuda/test_ptx.py", "tests/compute/cuda/test_card.py")


def main() -> int:
    """Exit status of the test; 1 where the environment cannot be made."""
    venv = ROOT / ".venv-cuda"
    programs = venv / "bin"
    try:
        if not (programs / "python").exists():
            checked([*creator(), str(venv)], "could not make the environment")
        # What tests/conftest.py imports, and no more of the tools.
        tools = ("pytest", "pytest-xdist", "hypothesis")
        installed(programs, "--editable", f"{ROOT}[cuda]", *tools)
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    env = {**os.environ, "VIRTUAL_ENV": str(venv)}
    line = [str(programs / "python"), "-m", "pytest", "-p", "no:cacheprovider", "-rs", *TESTS]
    return subprocess.run([*line, *sys.argv[1:]], cwd=ROOT, env=env, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
