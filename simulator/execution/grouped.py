"""Fused sums of scaled groups: their masks, scales and special values."""

import numpy as np

from ..kernels import grouped as kernels
from ..order import Fused
from .fused import key_of, spec_of
from .layout import Formats, Matrix, Place, Scales, Sums, padded, plain, surveyed


def run_grouped(
    order: Fused, a: Matrix, b: Matrix, start: Sums, formats: Formats, place: Place,
    scales: Scales | None,
) -> Sums:  # fmt: skip
    """Blocks of exactly summed groups; zero products fill the last one, with scales of 1."""
    if order.scale is None or order.group is None or a.shape[2] == 0:
        return start
    fmt, group = order.scale.fmt, order.group
    a, b = (_exact(x, formats, group) for x in (a, b))
    a, b = padded(a, 2, order.block), padded(b, 1, order.block)
    parts = -(-a.shape[2] // order.scale.block)
    if scales is None:
        one = np.ones((a.shape[0], 1, 1), np.float32)
        scales = (np.repeat(np.repeat(one, a.shape[1], 1), parts, 2),
                  np.repeat(np.repeat(one, parts, 1), b.shape[2], 2))  # fmt: skip
    sa, sb = (
        padded(plain(s.astype(np.float64)), axis, parts, 1.0)
        for s, axis in zip(scales, (2, 1), strict=True)
    )
    ea, eb = surveyed(sa, fmt).exponents, surveyed(sb, fmt).exponents
    masks_a, masks_b = kernels.row_masks(a, group), kernels.column_masks(b, group)
    every = order.scale.block // group
    masks_a *= np.repeat(sa != 0, every, axis=2)[:, :, : masks_a.shape[2]]
    masks_b *= np.repeat(sb != 0, every, axis=1)[:, : masks_b.shape[1]]
    spec, key = spec_of(order, True), key_of(place)
    finite = [np.isfinite(v).all(axis=axis, keepdims=True)
              for v, axis in ((a, 2), (sa, 2), (b, 1), (sb, 1))]  # fmt: skip
    hit = ~(np.isfinite(start) & finite[0] & finite[1] & finite[2] & finite[3])
    fixed = start
    special = bool(hit.any())
    if special:
        fixed = start.copy()
        kernels.matmul_special(a, b, sa, sb, ea, eb, fixed, hit, group, spec, key)
    kernels.matmul(a, b, masks_a, masks_b, sa, sb, ea, eb, start, group, spec, key)
    if special:
        np.copyto(start, fixed, where=hit)
    return start


def _exact(x: Matrix, formats: Formats, group: int) -> Matrix:
    """An operand in float32 if sums of a group of products fit its 24 bits, else in float64."""
    quanta = [f.grid.min_exponent - f.grid.subnormal_fraction_bits for f in formats]
    steps = group * formats[0].grid.largest * formats[1].grid.largest * 2.0 ** -sum(quanta)
    return plain(x.astype(np.float32 if steps <= 2**24 else np.float64, copy=False))
