"""Operands as the kernels want them, and the proofs that let a native product stand in."""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ...formats import quantize
from ...formats.errors import InputError
from ...formats.format import FLOAT32, ArithmeticFormat, FloatFormat, fits
from ...formats.lanes import make_plan
from ...formats.rounding import Mode, Overflow
from ..kernels.align import survey
from ..kernels.operand import CHECKED, count_off_grid

#: Operands (B, M, K) and (B, K, N); sums (B, M, N), float64 or, where that holds them, float32.
Matrix = NDArray[Any]
Sums = NDArray[Any]
Formats = tuple[ArithmeticFormat, ArithmeticFormat]
#: Scales (B, M, K / block) of A and (B, K / block, N) of B.
Scales = tuple[Matrix, Matrix]


class Place(NamedTuple):
    """Which random bits a part of a product takes: see `kernels.chain_random`."""

    seed: int = 0
    stream: int = 0
    k_first: int = 0
    k_all: int = 0


def array_of(x: Any, what: str) -> Matrix:
    """A tensor or array-like of floats as a C-contiguous array, copied only if it must be.

    Raises:
        InputError: neither float32 nor float64.
    """
    array = x.detach().cpu().numpy() if isinstance(x, torch.Tensor) else np.asarray(x)
    if array.dtype != np.float32 and array.dtype != np.float64:
        raise InputError(f"{what} is {array.dtype}, not one of float32, float64")
    return array if array.flags.c_contiguous else np.ascontiguousarray(array)


def refuse_off_grid(x: Matrix, fmt: ArithmeticFormat, what: str) -> None:
    """Check that every element is a value of the format, or NaN.

    Raises:
        InputError: one is not; tells the first of them, and how many there are.
    """
    flat = np.require(x.reshape(-1), None, ["W"])
    overflow = Overflow.INFINITY if fmt.grid.has_infinity else Overflow.SATURATE
    counts = np.empty(-(-flat.size // CHECKED), np.int64)
    plan = make_plan(fmt, int(Mode.NEAREST_EVEN), 0, overflow, flat.dtype == np.float32)
    count_off_grid(flat, counts, np.empty(0, np.uint8), *plan)
    if not counts.any():
        return
    start = int(np.flatnonzero(counts)[0]) * CHECKED
    part = flat[start : start + CHECKED]
    off = part[~((quantize(part, fmt, overflow=overflow) == part) | np.isnan(part))]
    raise InputError(
        f"{what} holds {off[0]!r}, not a value of {fmt.name} "
        f"({int(counts.sum())} such elements); quantize it first"
    )


class Operands(NamedTuple):
    """A and B, and their scales (B, M, K / block) and (B, K / block, N) if they have any.

    Arrays, or tensors for the kernels of a device.
    """

    a: Any
    b: Any
    scales: Any = None
    block: int = 1

    @property
    def depth(self) -> int:
        """K."""
        return int(self.a.shape[2])

    def at(self, k: slice | NDArray[np.int64]) -> "Operands":
        """The products of those k; whole blocks of them where there are scales."""
        scales = self.scales
        if not isinstance(k, slice) and isinstance(self.a, torch.Tensor):
            return self._gathered(torch.from_numpy(np.ascontiguousarray(k)).to(self.a.device))
        if scales is not None:
            if isinstance(k, slice):
                s: Any = slice(k.start // self.block, -(-k.stop // self.block))
            else:
                s = k[:: self.block] // self.block
            scales = scales[0][:, :, s], scales[1][:, s]
        return Operands(self.a[:, :, k], self.b[:, k], scales, self.block)

    def _gathered(self, k: Any) -> "Operands":
        """`at` of a tensor of indices, on the device of the operands."""
        scales = self.scales
        if scales is not None:
            s = k[:: self.block] // self.block
            scales = scales[0][:, :, s], scales[1][:, s]
        return Operands(self.a[:, :, k], self.b[:, k], scales, self.block)


def extended(x: Any, axis: int, short: int) -> Any:
    """An array or tensor (B, R, C) with so many zeros at the end of axis 1 or 2."""
    if not short:
        return x
    if isinstance(x, torch.Tensor):
        return torch.nn.functional.pad(x, (0, short) if axis == 2 else (0, 0, 0, short))
    return np.pad(x, [(0, short if n == axis else 0) for n in range(3)])


def plain(x: Matrix, formats: Formats | None = None) -> Matrix:
    """x contiguous and writable, in float32 if that holds both formats: one compilation for all."""
    dtype = None
    if formats is not None:
        dtype = np.float32 if all(fits(f, FLOAT32) for f in formats) else np.float64
    return np.require(x, dtype, ["C", "W"])


def padded(x: Matrix, axis: int, multiple: int, value: float = 0.0) -> Matrix:
    """x with `value` at the end of an axis, up to a multiple."""
    short = -x.shape[axis] % multiple
    if not short:
        return x
    shape = [*x.shape]
    shape[axis] += short
    out = np.full(shape, value, x.dtype)
    out[: x.shape[0], : x.shape[1], : x.shape[2]] = x
    return out


def transposed(x: Matrix) -> Matrix:
    """Stacks of matrices transposed, contiguous."""
    return np.require(x.swapaxes(1, 2), None, ["C", "W"])


class Surveyed(NamedTuple):
    """An operand (B, R, C), its exponents, the least of a nonzero element, and the largest."""

    values: Matrix
    exponents: NDArray[np.int16]
    low: int
    high: int


def surveyed(x: Matrix, fmt: ArithmeticFormat) -> Surveyed:
    """An operand and the exponents of its elements, subnormals at the format's smallest."""
    return Surveyed(x, *survey(x, fmt.min_exponent if isinstance(fmt, FloatFormat) else 0))


def products_in_float32(x: Surveyed, y: Surveyed, formats: Formats) -> bool:
    """Whether every product is exact in float32.

    With low and high the exponents of the smallest and largest nonzero operands together and f
    their formats' fraction bits: products have at most 24 bits, the last of them at
    2^(low - f) >= 2^-149, and are below 2^(high + 2) <= 2^126.
    """
    fractions = sum(f.precision - 1 for f in formats)
    return fractions <= 22 and x.low + y.low - fractions >= -149 and x.high + y.high <= 124


def narrow_chunk(x: Surveyed, y: Surveyed, formats: Formats, fraction_bits: int) -> int:
    """Products whose int32 sums fit, if each product is exact in float32; 0 if one may not be.

    Each is below 2^(F + 2) in units of 2^(emax - F), and so that this scale is a float32 of its
    own, F - low <= 127.
    """
    exact = products_in_float32(x, y, formats) and fraction_bits - (x.low + y.low) <= 127
    return int(min(1 << (29 - fraction_bits), 4096)) if exact and fraction_bits <= 27 else 0


def digits_of(formats: Formats, result: FloatFormat, products: int) -> tuple[int, int]:
    """The lowest bit of sums of products and an accumulator, and the 32-bit digits they need."""
    lowest = min(sum(lowest_bit(f) for f in formats), lowest_bit(result))
    top = sum(math.frexp(max(f.grid.largest, -f.grid.lowest))[1] for f in formats)
    top = max(top + products.bit_length(), result.max_exponent + 1)
    return lowest, (top - lowest) // 32 + 4


def special_outputs(a: Matrix, b: Matrix, c: Sums) -> NDArray[np.bool_]:
    """Which outputs have an infinity or NaN among their operands."""
    rows = np.isfinite(a).all(axis=2, keepdims=True)
    columns = np.isfinite(b).all(axis=1, keepdims=True)
    hit: NDArray[np.bool_] = ~(np.isfinite(c) & rows & columns)
    return hit


def products_fit(a: Matrix, b: Matrix, formats: Formats, bits: int) -> bool:
    """Whether every partial sum of a b, in any order, is exact in `bits` significand bits.

    Each product is a multiple of q = 2^(lowest bit of a + lowest bit of b), and no partial sum
    exceeds K max|a| max|b|; if that is at most 2^bits q, each is an integer number of q that
    fits.
    """
    if not a.size or not b.size:
        return True
    bound = a.shape[2] * float(np.abs(a).max()) * float(np.abs(b).max())
    return bool(bound <= math.ldexp(1.0, bits + sum(lowest_bit(f) for f in formats)))


def lowest_bit(fmt: ArithmeticFormat) -> int:
    """The exponent of the bit that divides every value of the format."""
    return fmt.grid.min_exponent - fmt.grid.subnormal_fraction_bits


def native_product(a: Matrix, b: Matrix) -> Matrix:
    """a @ b by torch, whose threads are the ones that a run bounds."""
    return torch.bmm(torch.from_numpy(plain(a)), torch.from_numpy(plain(b))).numpy()
