"""convert: arrays through a chip's conversion instruction, bit for bit."""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, choice
from ..generators import draw_words
from ..jit import start_threads
from .kernels import Plan, convert_array
from .row import Conversion, Lane
from .rows import get_conversion, list_conversions

__all__ = ["Conversion", "Lane", "convert", "get_conversion", "list_conversions", "words_needed"]

Array = NDArray[Any]
_OPERANDS: dict[str, tuple[np.dtype[Any], np.dtype[Any]]] = {
    "float32": (np.dtype(np.float32), np.dtype(np.uint32)),
    "float16": (np.dtype(np.float16), np.dtype(np.uint16)),
}
_UNSIGNED = ((8, np.uint8), (16, np.uint16), (32, np.uint32))


def convert(
    x: Array,
    conversion: str | Conversion,
    random: Array | None = None,
    *,
    source: str = "philox",
    seed: int = 0,
    stream: int = 0,
) -> Array:
    """The codes that a chip's conversion instruction writes for the elements of x.

    Args:
        x: an array of the row's operand format (float32 or float16), or its codes as uint32 or
            uint16; any shape. Element 0 of a packed conversion is the one in the lowest bits of
            the destination (PTX: the last source operand).
        conversion: a name of `list_conversions`, or a `Conversion`.
        random: 32-bit random words as the instruction takes them, `words_needed` of them in
            row-major order: one for each element, or for each two or four that share a word.
        source, seed, stream: where the words come from without `random`: `draw_words`.

    Returns:
        uint8, 16 or 32 codes of the target format, whichever is the least that holds them, of
        x's shape; `decode(codes, row.target)` gives the values.

    Raises:
        InputError: unknown name; x of another dtype; too few or too many words; words for a
            conversion that takes none.
    """
    row = get_conversion(conversion)
    operands = _operand_codes(np.asarray(getattr(x, "detach", lambda: x)()), row)
    words = _words(row, operands.size, random, source, seed, stream)
    out = np.empty(operands.shape, np.uint32)
    shift = np.array([lane.shift for lane in row.lanes], np.uint32)
    reverse = np.array([lane.reversed for lane in row.lanes], np.bool_)
    start_threads()
    convert_array(operands.reshape(-1), words, out.reshape(-1), shift, reverse, _plan(row))
    return out.astype(next(d for width, d in _UNSIGNED if row.target_format.bits <= width))


def words_needed(conversion: str | Conversion, count: int) -> int:
    """How many 32-bit words `count` elements take: ceil(count / lanes), or 0."""
    row = get_conversion(conversion)
    return -(-count // len(row.lanes)) if row.addend == "random" else 0


def _operand_codes(x: Array, row: Conversion) -> Array:
    float_dtype, code_dtype = _OPERANDS[choice(row.operand, _OPERANDS, "operand", row.name)]
    if x.dtype not in (float_dtype, code_dtype):
        raise InputError(
            f"convert: dtype {x.dtype} is not one of {float_dtype}, {code_dtype}, the operand of "
            f"{row.name}; convert it first"
        )
    # One dtype, always a copy: the kernel compiles once, for read-only and strided arrays too.
    return np.ascontiguousarray(x).view(code_dtype).reshape(x.shape).astype(np.uint32)


def _words(
    row: Conversion, count: int, random: Array | None, source: str, seed: int, stream: int
) -> NDArray[np.uint32]:
    """The random words, checked or drawn; none for a deterministic row."""
    needed = words_needed(row, count)
    if random is None:
        return draw_words(source, needed, seed, stream)
    if row.addend != "random":
        raise InputError(f"convert: {row.name} takes no random words; leave `random` out")
    words = np.asarray(random)
    if words.dtype.kind not in "iu" or words.size != needed:
        raise InputError(
            f"convert: random words of {words.dtype} {words.shape} are not {needed} integers: "
            f"{row.name} takes one for each {len(row.lanes)} of {count} elements"
        )
    if needed and not 0 <= int(words.min()) <= int(words.max()) < 2**32:
        raise InputError(
            f"convert: random words {words.min()} to {words.max()} are not within 0 to 2^32 - 1"
        )
    return np.array(words, np.uint32).reshape(-1)


@lru_cache(maxsize=256)
def _plan(row: Conversion) -> Plan:
    """The scalars of a row."""
    operand, target, k = row.operand_format, row.target_format, row.random_bits
    slope = -1 if row.compare == ">=" else 1
    constant = row.addend if isinstance(row.addend, int) else 0
    offset = (1 << k if row.compare == ">=" else 0) + slope * constant
    return Plan(
        operand_bits=operand.bits,
        operand_fraction=operand.fraction_bits,
        operand_bias=operand.exponent_bias,
        fraction=target.fraction_bits,
        min_exponent=target.min_exponent,
        target_bits=target.bits,
        k=k,
        offset=offset,
        slope=slope,
        nearest=row.addend == "nearest_even",
        shift_to_normal=row.align == "minimum_normal",
        add_at_operand=row.align == "operand",
        keep_subnormal=row.subnormal_operand == "keep",
        keep_zero_sign=row.subnormal_operand != "positive_zero",
        signed_zero=target.grid.signed_zero,
        largest=row.largest_code,
        overflow=row.special_code(row.overflow),
        infinity=row.special_code(row.infinity),
        nan=row.nan_code,
        nan_sign=row.nan != "fixed",
        nan_payload=row.nan == "payload",
    )
