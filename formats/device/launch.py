"""The one way to start a Triton kernel: without contraction."""

from typing import Any

#: Compiled without fusing a*b+c into one rounding. Triton's other freedoms are not used: no
#: kernel has `tl.dot`, whose tf32 is not IEEE, a floating-point `tl.sum`, whose order is its own,
#: a float32 `/`, which is approximate, or a function of libdevice.
OPTIONS: dict[str, Any] = {"enable_fp_fusion": False}


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, **constants: Any) -> None:
    """Run a kernel on a grid of programs; an empty grid is no work."""
    if all(grid):
        kernel[grid](*arguments, **constants, **OPTIONS)


def blocks(count: int, each: int) -> int:
    """ceil(count / each)."""
    return -(-count // each)
