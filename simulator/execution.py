"""From an order to its kernel: operand layout, native shortcuts and their proofs, specials."""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ..formats.format import ArithmeticFormat, FloatFormat, Grid, fits
from ..formats.kernels import OVERFLOW_CODES, quantize_array
from ..formats.rounding import Stochastic, kernel_mode
from .kernels import chain as chain_kernels
from .kernels import exact as exact_kernels
from .kernels import fused as fused_kernels
from .order import Chain, Exact, Fused, Integer

#: Operands (B, M, K) and (B, K, N); sums (B, M, N).
Matrix = NDArray[Any]
Sums = NDArray[np.float64]


class Place(NamedTuple):
    """Which random bits a part of a product takes: see `kernels.chain.matmul_stochastic`."""

    seed: int = 0
    stream: int = 0
    k_first: int = 0
    k_all: int = 0


Formats = tuple[ArithmeticFormat, ArithmeticFormat]
_FLOAT32 = FloatFormat("float32", 8, 23)


def plain(x: Matrix, formats: Formats | None = None) -> Matrix:
    """x contiguous and writable, in float32 if that holds both formats: one compilation for all."""
    dtype = None
    if formats is not None:
        dtype = np.float32 if all(fits(f, _FLOAT32) for f in formats) else np.float64
    return np.require(x, dtype, ["C", "W"])


def run_fused(
    order: Fused, a: Matrix, b: Matrix, start: Sums, formats: Formats, place: Place
) -> Sums:
    """Fused blocks; zero products fill the last one (they align nothing and add nothing)."""
    short = -a.shape[2] % order.block
    if short:
        a = np.pad(a, ((0, 0), (0, 0), (0, short)))
        b = np.pad(b, ((0, 0), (0, short), (0, 0)))
    a, b = plain(a, formats), plain(b, formats)
    hit = _special(a, b, start)
    emins = [_min_exponent(f) for f in formats]
    fixed = (
        order.block, order.fraction_bits, order.min_exponent, order.result.grid,
        order.rounding == "nearest_even",
    )  # fmt: skip
    out = start.copy()
    if hit.any():
        everything = np.array([*emins, order.result.min_exponent])
        fused_kernels.matmul_special(a, b, out, hit, *fixed, everything)
        a, b = (np.where(np.isfinite(x), x, x.dtype.type(0)) for x in (a, b))
    regular = np.where(hit, 0.0, start) if hit.any() else start.copy()
    matmul = fused_kernels.matmul_narrow if _narrow(order, formats) else fused_kernels.matmul_wide
    if b.shape[2] < min(a.shape[1], 256):  # the longer side fills the vector lanes
        a, b, emins = plain(b.mT), plain(a.mT), emins[::-1]
        regular = plain(regular.mT)
        _fused_matmul(matmul, a, b, emins, regular, fixed, order)
        regular = regular.mT
    else:
        _fused_matmul(matmul, a, b, emins, regular, fixed, order)
    return np.where(hit, out, regular) if hit.any() else plain(regular)


def _special(a: Matrix, b: Matrix, c: Sums) -> NDArray[np.bool_]:
    """Which outputs have an infinity or NaN among their operands."""
    rows = np.isfinite(a).all(axis=2, keepdims=True)
    columns = np.isfinite(b).all(axis=1, keepdims=True)
    hit: NDArray[np.bool_] = ~(np.isfinite(c) & rows & columns)
    return hit


def _fused_matmul(
    matmul: Any, a: Matrix, b: Matrix, emins: list[int], out: Sums, fixed: Any, order: Fused
) -> None:
    ea, eb = fused_kernels.exponents(a, emins[0]), fused_kernels.exponents(b, emins[1])
    matmul(a, b, ea, eb, out, *fixed, order.result.min_exponent)


def _min_exponent(fmt: ArithmeticFormat) -> int:
    return fmt.min_exponent if isinstance(fmt, FloatFormat) else 0


def _narrow(order: Fused, formats: Formats) -> bool:
    """8-bit floats: exact products in float32, aligned sums in int32 (see the kernel's proof)."""
    width = order.fraction_bits + 2 + (order.block + 1).bit_length()
    small = all(isinstance(f, FloatFormat) and f.bits <= 8 and f.signed for f in formats)
    return small and width <= 31


def run_chain(
    order: Chain, a: Matrix, b: Matrix, start: Sums, formats: Formats, place: Place
) -> Sums:
    """Chains; several lanes start from +0, are added in ascending order, then to `start`."""
    a, b = plain(a, formats), plain(b, formats)
    if order.flush:
        a, b, start = (flush_subnormals(x) for x in (a, b, start))
    if order.lanes == 1:
        return _one_chain(order, a, b, start, place)
    lanes = [
        _one_chain(
            order, a[:, :, n :: order.lanes], b[:, n :: order.lanes], np.zeros_like(start), place
        )
        for n in range(order.lanes)
    ]
    total = lanes[0]
    for lane in lanes[1:]:
        total = add(total, lane, order)
    return add(start, total, order)


def _one_chain(order: Chain, a: Matrix, b: Matrix, start: Sums, place: Place) -> Sums:
    native = {"float32": np.float32, "float64": np.float64}.get(order.accumulator)
    ieee = order.rounding == "nearest_even" and order.fused and not order.flush
    if native is not None and ieee:
        out = start.astype(native)
        chain_kernels.matmul_native(np.require(a, native, "C"), np.require(b, native, "C"), out)
        return out.astype(np.float64)
    out = start.copy()
    mode, bits = kernel_mode(order.accumulate)
    if isinstance(order.accumulate, Stochastic):
        chain_kernels.matmul_stochastic(
            plain(a), plain(b), out, order.result.grid, order.fused, bits,
            np.uint64(place.seed % 2**64), np.uint64(place.stream % 2**64),
            place.k_first, place.k_all,
        )  # fmt: skip
        return out
    chain_kernels.matmul(plain(a), plain(b), out, *_step(order, mode, order.fused))
    return out


def _step(order: Chain, mode: int, *fused: bool) -> tuple[Any, ...]:
    """Grid, mode and flush threshold; a flushing unit rounds with an unbounded exponent first."""
    grid: Grid = order.result.grid
    if not order.flush:
        return grid, mode, *fused, 0.0
    return grid._replace(min_exponent=-900), mode, *fused, 2.0**grid.min_exponent


def flush_subnormals(x: Matrix) -> Matrix:
    """Magnitudes below the smallest normal float32 as zeros of their sign."""
    return np.where(np.abs(x) < 2.0**-126, np.copysign(x.dtype.type(0), x), x)


def add(x: Sums, y: Sums, order: Chain) -> Sums:
    """round(x + y), elementwise, as the accumulator of `order` adds."""
    if order.flush:
        x, y = flush_subnormals(x), flush_subnormals(y)
    out = np.empty_like(x)
    mode, _ = kernel_mode(order.accumulate)
    flat = (np.ascontiguousarray(v).reshape(-1) for v in (x, y))
    chain_kernels.add(*flat, out.reshape(-1), *_step(order, mode))
    return out


def run_exact(
    order: Exact, a: Matrix, b: Matrix, start: Sums, formats: Formats, place: Place
) -> Sums:
    """Exact blocks: the native float64 GEMM when no bit can be lost in it, else long sums."""
    block = order.block or max(a.shape[2], 1)
    mode, _ = kernel_mode(order.accumulate)
    out = start
    for k in range(0, max(a.shape[2], 1), block):
        x, y = a[:, :, k : k + block], b[:, k : k + block]
        total = _exact_sum(x, y, out, formats)
        out = np.empty_like(total)
        chain_kernels.add(
            total.reshape(-1), np.zeros(total.size), out.reshape(-1), order.result.grid, mode, 0.0
        )
    return out


def _exact_sum(a: Matrix, b: Matrix, c: Sums, formats: Formats) -> Sums:
    """c + a b, rounded to odd in float64."""
    finite_a, finite_b = (np.where(np.isfinite(x), x, 0).astype(np.float64) for x in (a, b))
    finite_c = np.where(np.isfinite(c), c, 0.0)
    if products_fit(finite_a, finite_b, formats, 53):
        out = np.empty_like(c)
        product = _native_product(finite_a, finite_b)
        chain_kernels.add_to_odd(product.reshape(-1), finite_c.reshape(-1), out.reshape(-1))
    else:
        lowest = sum(_lowest_bit(f) for f in formats)
        lowest = min(lowest, _least_bit(finite_c))
        top = _top_bit(finite_a) + _top_bit(finite_b) + a.shape[2].bit_length()
        digits = (max(top, _top_bit(finite_c)) - lowest) // 32 + 4
        out = finite_c.copy()
        exact_kernels.matmul_long(finite_a, finite_b, out, lowest, digits)
    hit = _special(a, b, c)
    if hit.any():
        with np.errstate(invalid="ignore"):
            natural = a.astype(np.float64) @ b.astype(np.float64) + c
        out = np.where(hit, natural, out)
    return out


def products_fit(a: Matrix, b: Matrix, formats: Formats, bits: int) -> bool:
    """Whether every partial sum of a b, in any order, is exact in `bits` significand bits.

    Each product is a multiple of q = 2^(lowest bit of a + lowest bit of b), and no partial sum
    exceeds K max|a| max|b|; if that is at most 2^bits q, each is an integer number of q that
    fits.
    """
    if not a.size or not b.size:
        return True
    bound = a.shape[2] * float(np.abs(a).max()) * float(np.abs(b).max())
    return bool(bound <= math.ldexp(1.0, bits + sum(_lowest_bit(f) for f in formats)))


def _lowest_bit(fmt: ArithmeticFormat) -> int:
    """The exponent of the bit that divides every value of the format."""
    return fmt.grid.min_exponent - fmt.grid.subnormal_fraction_bits


def _least_bit(x: Sums) -> int:
    """A bit that divides every element."""
    nonzero = np.abs(x[x != 0])
    return int(np.frexp(nonzero.min())[1]) - 53 if nonzero.size else 0


def _top_bit(x: Matrix) -> int:
    return int(np.frexp(np.abs(x).max())[1]) if x.size and x.any() else 0


def run_integer(
    order: Integer, a: Matrix, b: Matrix, start: Sums, formats: Formats, place: Place
) -> Sums:
    """Exact integer sums through the native GEMM: float32 below 2^24, float64 below 2^53.

    Where no partial sum can leave the accumulator, wrapping and saturation do nothing, so the
    blocks need not be told apart.
    """
    depth = max(a.shape[2], 1)
    peak = float(np.abs(start).max()) if start.size else 0.0
    if a.size and b.size:
        peak += depth * float(np.abs(a).max()) * float(np.abs(b).max())
    safe = peak <= order.result.largest
    block = depth if safe or order.overflow == "wrap" else order.block or depth
    total = start
    for k in range(0, depth, block):
        total = total + _integer_product(a[:, :, k : k + block], b[:, k : k + block], formats)
        if not safe:
            total = _reduced(total, order)
    return total


def _integer_product(a: Matrix, b: Matrix, formats: Formats) -> Sums:
    dtype = np.float32 if products_fit(a, b, formats, 24) else np.float64
    return _native_product(a.astype(dtype, copy=False), b.astype(dtype, copy=False)).astype(
        np.float64
    )


def _native_product(a: Matrix, b: Matrix) -> Matrix:
    """a @ b by torch, whose threads are the ones that a run bounds."""
    return torch.bmm(torch.from_numpy(plain(a)), torch.from_numpy(plain(b))).numpy()


def _reduced(total: Sums, order: Integer) -> Sums:
    out = np.empty_like(total)
    code = OVERFLOW_CODES[order.overflow]
    zero = np.uint64(0)
    quantize_array(
        np.ascontiguousarray(total).reshape(-1), out.reshape(-1), order.result.grid, 0, code, 0,
        zero, zero,
    )  # fmt: skip
    return out
