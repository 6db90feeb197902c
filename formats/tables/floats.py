"""Float formats that no grid describes, as tables of their values (`FloatFormat.tabled`)."""

from functools import lru_cache

import numpy as np

from ..format import FloatFormat, Format
from .table import Table, dyadic_cut


def table_of(row: Format) -> Table | None:
    """The table that rounds to the format; None for those that the grid kernels round to."""
    if isinstance(row, FloatFormat):
        return float_table(row) if row.tabled else None
    return getattr(row, "table", None)


@lru_cache(maxsize=64)
def float_table(row: FloatFormat) -> Table:
    """The magnitudes of a float format of at most 16 bits: a body is its rung.

    The last rung is the number after the largest value, so that it is decided by rounding what
    overflows. Under `normal_zero_field` the gap above zero begins at 2^min_exponent, whose code
    is that of zero: what would round to it, or is less, becomes 0 (as in the published
    conversion of DLFloat), and the roundings that know only the order of values take the
    smallest one.
    """
    values = np.array([row.magnitude(body) for body in range(row.top_body + 2)])
    starts = values.copy()
    if row.normal_zero_field:
        starts[0] = 2.0**row.min_exponent
    middles = starts[:-1] + (values[1:] - starts[:-1]) / 2
    narrow = values[-1] < 2.0**128 and row.min_subnormal >= 2.0**-149
    ones = (1 << (row.bits - row.signed)) - 1
    nan = {"all_ones": ones, "negative_zero": 1 << (row.bits - 1)}.get(row.nan)
    return Table(
        name=row.name,
        bits=row.bits,
        values=values,
        values32=values.astype(np.float32) if narrow else None,
        floors=values,
        on_floor=np.ones(len(values), bool),
        middles=middles,
        on_middle=np.ones(len(middles), bool),
        odd=np.arange(len(values)) % 2 == 1,
        cut=dyadic_cut(values, starts),
        negative="sign_bit" if row.signed else "none",
        signed_zero=row.grid.signed_zero,
        beyond=True,
        nan=nan,
        infinity=row.infinity_body if row.infinity else None,
        exact32=narrow,
    )
