"""From an order to its Triton kernel, for tensors on CUDA devices."""

from .engine import ENGINE, sums_dtype

__all__ = ["ENGINE", "sums_dtype"]
