"""What a card that has no room says, by whoever."""

from __future__ import annotations

import pytest
from numba.cuda.cudadrv.driver import CudaAPIError

from compute.cuda.card import memory_errors


def test_a_launch_without_room_is_a_memory_error() -> None:
    said = CudaAPIError(2, "Call to cuLaunchKernel results in CUDA_ERROR_OUT_OF_MEMORY")
    with pytest.raises(MemoryError, match="CUDA_ERROR_OUT_OF_MEMORY"), memory_errors():
        raise said


def test_other_failures_of_a_launch_stay_what_they_are() -> None:
    with pytest.raises(CudaAPIError, match="ILLEGAL_ADDRESS"), memory_errors():
        raise CudaAPIError(700, "CUDA_ERROR_ILLEGAL_ADDRESS")
