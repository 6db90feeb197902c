"""Rounding against gfloat, an independent model, on all codes and midpoints of small floats."""

import warnings

import numpy as np
import pytest

from tapeout.formats import FloatFormat, decode, get_format, list_formats, quantize

gfloat = pytest.importorskip("gfloat", reason="gfloat is not installed: make dev brings it")

SMALL = [
    name
    for name in list_formats()
    if isinstance(fmt := get_format(name), FloatFormat) and fmt.bits <= 8
]
MODES = {
    "nearest_even": gfloat.RoundMode.TiesToEven,
    "nearest_away": gfloat.RoundMode.TiesToAway,
    "toward_zero": gfloat.RoundMode.TowardZero,
    "up": gfloat.RoundMode.TowardPositive,
    "down": gfloat.RoundMode.TowardNegative,
}


def info(fmt: FloatFormat):  # type: ignore[no-untyped-def]
    """Our row in gfloat's terms."""
    top_nans = {"ieee": 2**fmt.fraction_bits - fmt.infinity, "all_ones": 1}.get(fmt.nan, 0)
    return gfloat.FormatInfo(
        fmt.name,
        fmt.bits,
        fmt.precision,
        bias=fmt.exponent_bias,
        is_signed=fmt.signed,
        domain=gfloat.Domain.Extended if fmt.infinity else gfloat.Domain.Finite,
        has_nz=fmt.signed and fmt.nan != "negative_zero",
        num_high_nans=top_nans,
        has_subnormals=fmt.subnormals,
        is_twos_complement=False,
    )


def points(fmt: FloatFormat) -> np.ndarray:
    """Every value, every midpoint, points near both, and points beyond the range."""
    values = decode(np.arange(2**fmt.bits, dtype=np.uint8), fmt).astype(np.float64)
    values = np.unique(values[np.isfinite(values)])
    gaps = np.diff(values)
    inside = [values[:-1] + gaps * part for part in (0.25, 0.5, 0.5 - 2**-20, 0.5 + 2**-20, 0.99)]
    top = fmt.largest * np.array([1.0 + 2.0**-12, 1 + 2.0**-fmt.precision, 1.2, 1e3])
    x = np.concatenate([values, *inside, top, [np.inf]])
    return np.concatenate([x, -x]) if fmt.signed else x[x > 0]


@pytest.mark.parametrize("saturates", [True, False], ids=["saturate", "infinity"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", SMALL)
def test_rounding_equals_gfloat(name: str, mode: str, saturates: bool) -> None:
    fmt = get_format(name)
    assert isinstance(fmt, FloatFormat)
    if not fmt.zero:
        pytest.skip("gfloat rounds to zero, which e8m0 has not")
    if not saturates and not fmt.grid.has_nan and not fmt.infinity:
        pytest.skip("the format has nothing to overflow to")
    x = points(fmt)
    got = quantize(x, fmt, rounding=mode, overflow="saturate" if saturates else "infinity")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # gfloat multiplies infinities
        want = np.array([gfloat.round_float(info(fmt), v, MODES[mode], saturates) for v in x])
    if not saturates and not fmt.infinity:
        # With nowhere to go, gfloat stops at the largest value in the roundings toward zero;
        # here, overflow without an infinity is NaN in each of them.
        beyond = np.isnan(got)
        assert (np.abs(x[beyond]) > fmt.largest).all()
        got, want = got[~beyond], want[~beyond]
    assert np.array_equal(got, want, equal_nan=True)
    assert np.array_equal(np.signbit(got), np.signbit(want))
