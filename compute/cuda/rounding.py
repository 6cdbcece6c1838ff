"""Products that are rounded before they are added: a card then computes what the processor does.

NVVM fuses `a * b + c` into one instruction that rounds once, numba-cuda has no switch for it, and
one last bit can decide between two variants. Importing this module makes every float64 product of
a kernel the instruction that is never fused (`mul.rn.f64`). Under the simulator nothing is needed.
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir
from numba import config, types
from numba.core import cgutils

_PRODUCT = "llvm.nvvm.mul.rn.d"


def _rounded(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    real = ir.DoubleType()
    product = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(real, [real, real]), _PRODUCT
    )
    return builder.call(product, args)


if not config.ENABLE_CUDASIM:  # type: ignore[attr-defined]
    from numba.cuda.cudaimpl import lower

    for product in (operator.mul, operator.imul):
        lower(product, types.float64, types.float64)(_rounded)
