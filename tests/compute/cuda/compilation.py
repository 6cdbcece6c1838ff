"""What the kernels become for a card, without one: registers, memory, rounded products.

    python -m tests.compute.cuda.compilation 8.0

Prints JSON. Needs the cuda extra, and neither a driver nor a card.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import asdict, dataclass
from importlib import import_module
from types import SimpleNamespace
from typing import Any

from numba import types

from compute.account import Terms


@dataclass(frozen=True, slots=True)
class Compiled:
    """One kernel for one compute capability, as NVVM and the assembler made it.

    `fused` are the instructions that multiply and add with one rounding; there must be none.
    """

    kernel: str
    capability: str
    products: int
    fused: int
    registers: int
    stack_bytes: int
    spilled_bytes: int
    shared_bytes: int
    code_bytes: int


def compiled(capability: tuple[int, int]) -> list[Compiled]:
    """All kernels for one compute capability; once a process, for functions are kept."""
    from numba import cuda

    import compute.cuda.rounding  # noqa: F401
    from compute.cuda import kernels

    # What a kernel calls is compiled for the card of the process: this is one.
    dispatcher: Any = import_module("numba.cuda.dispatcher")
    dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=capability)
    compile_ptx: Any = cuda.compile_ptx  # type: ignore[attr-defined]
    terms = types.NamedTuple((types.float64,) * 5 + (types.int64,) * 2, Terms)
    found = []
    for name, (inputs, outputs) in signatures().items():
        kernel: Any = getattr(kernels, f"{name}_kernel")
        values = types.int64 if name == "votes" else terms
        ptx, _ = compile_ptx(kernel.py_func, types.void(inputs, values, outputs), cc=capability)
        found.append(assembled(name, capability, ptx))
    return found


def signatures() -> dict[str, tuple[Any, Any]]:
    """(inputs, outputs) of each kernel, as `compute.cuda.stages` and `.packing` hand them over."""
    real, word, count, flag = types.float64, types.uint64, types.int32, types.uint8
    single, long = types.float32, types.int64

    def arrays(*kinds: tuple[Any, int]) -> Any:
        return types.Tuple([types.Array(kind, axes, "C") for kind, axes in kinds])

    votes = ((word, 2), (count, 2), (count, 2), (word, 1), (real, 1))
    scores, sums = ((real, 1), (count, 1)), ((count, 1), (real, 2))
    cells = ((real, 3),) * 4
    base = arrays(*votes, (real, 2))
    return {
        "product": (base, arrays(*scores, (flag, 1))),
        "columns": (base, arrays(*scores, (flag, 1), *sums)),
        "fixed": (base, arrays(*scores, (flag, 1), *sums)),
        "pairs": (
            arrays(*votes, (real, 2), (count, 2), (real, 1), (real, 1), (long, 2)),
            arrays((real, 2), (count, 2), (flag, 1), *cells),
        ),
        "pair": (arrays(*votes, (count, 2), (real, 1), (real, 1)), arrays(*scores, *sums)),
        "votes": (
            arrays((single, 2), (long, 1), (single, 1), (single, 1), (long, 1)),
            arrays((word, 3)),
        ),
    }


def assembled(kernel: str, capability: tuple[int, int], ptx: str) -> Compiled:
    """What the assembler says of one kernel's PTX."""
    linker: Any = import_module("cuda.bindings.nvjitlink")
    major, minor = capability
    handle = linker.create(2, [f"-arch=sm_{major}{minor}", "-verbose"])
    code = ptx.encode()
    linker.add_data(handle, linker.InputType.PTX, code, len(code), kernel)
    linker.complete(handle)
    told = bytearray(linker.get_info_log_size(handle))
    linker.get_info_log(handle, told)
    size = linker.get_linked_cubin_size(handle)
    linker.destroy(handle)

    def number(pattern: str) -> int:
        found = re.search(pattern, told.decode())
        return int(found[1]) if found else 0

    return Compiled(
        kernel=kernel,
        capability=f"{major}.{minor}",
        products=len(re.findall(r"\bmul(\.rn)?\.f64", ptx)),
        fused=len(re.findall(r"\bfma\.\w+\.f64", ptx)) + len(re.findall(r"\bmul\.f64", ptx)),
        registers=number(r"Used (\d+) registers"),
        stack_bytes=number(r"(\d+) bytes stack frame"),
        spilled_bytes=number(r"(\d+) bytes spill stores"),
        shared_bytes=number(r"(\d+) bytes smem"),
        code_bytes=size,
    )


if __name__ == "__main__":
    one = sys.argv[1]
    major, minor = (int(part) for part in one.split("."))
    print(json.dumps([asdict(row) for row in compiled((major, minor))], indent=1))
