"""The bias of stochastic rounding, by enumerating every random integer, against closed forms.

Errors are in ulps of the result, away from zero counted positive.
"""

import math
from fractions import Fraction

import gfloat
import numpy as np
import pytest
from gfloat.formats import (
    format_info_ocp_e2m1,
    format_info_ocp_e2m3,
    format_info_ocp_e3m2,
    format_info_ocp_e4m3,
    format_info_ocp_e5m2,
    format_info_ocp_e8m0,
)

from tapeout.formats import Stochastic, decode, get_format, quantize
from tapeout.formats.format import FloatFormat
from tapeout.formats.hardware.conversion import convert, get_conversion
from tapeout.formats.reference import encode_exact

BITS = [1, 2, 3, 4, 8]
RULES = ["srff", "srf", "src"]
# Where an ulp lies: one of the normals, the last before the next binade, the first and the last
# of the subnormals. (format, lower end of the ulp, its width)
ULPS = [
    ("float8_e4m3fn", 1.0, 0.125), ("float8_e4m3fn", 1.875, 0.125), ("float8_e4m3fn", 416.0, 32.0),
    ("float8_e4m3fn", 0.0, 2.0**-9), ("float8_e4m3fn", 7 * 2.0**-9, 2.0**-9),
    ("float8_e5m2", 1.5, 0.25), ("float8_e5m2", 2.0**-16, 2.0**-16),
    ("float8_e4m3fnuz", 0.0, 2.0**-10), ("float6_e3m2fn", 3.5, 0.5), ("float4_e2m1fn", 0.5, 0.5),
    ("float4_e2m1fn", 4.0, 2.0), ("bfloat16", 1.0, 2.0**-7), ("float16", 2.0**-24, 2.0**-24),
]  # fmt: skip


def errors(fmt: str, low: float, ulp: float, rule: str, k: int, extra: int) -> list[Fraction]:
    """Mean error over all 2^k random integers of each input with `extra` bits below the ulp."""
    count, span = 2**extra, 2**k
    x = np.array([low + n / count * ulp for n in range(count)])
    r = np.arange(span)
    got = quantize(
        np.repeat(x, span), fmt, rounding=Stochastic(k, rule), random_bits=np.tile(r, count)
    ).reshape(count, span)
    assert set(np.unique(got).tolist()) <= {low, low + ulp}
    ups = ((got - low) / ulp).sum(1)
    return [Fraction(int(up), span) - Fraction(n, count) for n, up in enumerate(ups)]


def mean(values: list[Fraction]) -> Fraction:
    return sum(values, Fraction(0)) / len(values)


@pytest.mark.parametrize("k", BITS)
@pytest.mark.parametrize(("fmt", "low", "ulp"), ULPS)
def test_bias_for_inputs_with_many_more_bits(fmt: str, low: float, ulp: float, k: int) -> None:
    """srff is -2^-(k+1) toward zero, srf and src are unbiased: exactly, on a grid of n bits.

    On 2^n inputs the mean of floor(2^k d) 2^-k - d is -(2^-(k+1) - 2^-(n+1)), the mean of srf is
    +2^-(n+1) (a discarded fraction of exactly an odd half of 2^-k always counts up), and src,
    whose ties go to even, has none.
    """
    n = k + 3
    fine = Fraction(1, 2 ** (n + 1))
    srff, srf, src = (errors(fmt, low, ulp, rule, k, n) for rule in RULES)
    assert mean(srff) == fine - Fraction(1, 2 ** (k + 1)) < 0
    assert mean(srf) == fine
    assert mean(src) == 0
    assert all(-Fraction(1, 2**k) < e <= 0 for e in srff)
    assert max(abs(e) for e in srf) == max(abs(e) for e in src) == Fraction(1, 2 ** (k + 1))


@pytest.mark.parametrize("k", BITS)
@pytest.mark.parametrize(("fmt", "low", "ulp"), ULPS)
def test_bias_for_inputs_with_one_more_bit(fmt: str, low: float, ulp: float, k: int) -> None:
    """Inputs with exactly k + 1 bits below the ulp: -2^-(k+2), +2^-(k+2), 0 ulp."""
    quarter = Fraction(1, 2 ** (k + 2))
    means = [mean(errors(fmt, low, ulp, rule, k, k + 1)) for rule in RULES]
    assert means == [-quarter, quarter, 0]


@pytest.mark.parametrize("k", BITS)
@pytest.mark.parametrize("rule", RULES)
def test_inputs_of_k_bits_are_rounded_without_bias_and_values_stay(rule: str, k: int) -> None:
    for fmt, low, ulp in ULPS:
        assert set(errors(fmt, low, ulp, rule, k, k)) == {Fraction(0)}


# --- gfloat ------------------------------------------------------------------------------------

OCP = {
    "float8_e4m3fn": format_info_ocp_e4m3, "float8_e5m2": format_info_ocp_e5m2,
    "float6_e3m2fn": format_info_ocp_e3m2, "float6_e2m3fn": format_info_ocp_e2m3,
    "float4_e2m1fn": format_info_ocp_e2m1, "float8_e8m0fnu": format_info_ocp_e8m0,
}  # fmt: skip
OTHERS = ["float8_e4m3", "float8_e3m4", "float8_e4m3b11fnuz", "float8_e4m3fnuz", "float8_e5m2fnuz"]
MODES = {
    "srff": gfloat.RoundMode.StochasticFastest,
    "srf": gfloat.RoundMode.StochasticFast,
    "src": gfloat.RoundMode.Stochastic,
}


def described(fmt: str) -> gfloat.FormatInfo:
    """Our row in gfloat's terms, for the formats that it has no name for."""
    row = float_format(fmt)
    high = {"ieee": 2**row.fraction_bits - 1, "all_ones": 1, "negative_zero": 0, "none": 0}
    return gfloat.FormatInfo(
        fmt, row.bits, row.precision, bias=row.exponent_bias, is_signed=row.signed,
        domain=gfloat.Domain.Extended if row.infinity else gfloat.Domain.Finite,
        has_nz=row.nan != "negative_zero", num_high_nans=high[row.nan],
        has_subnormals=row.subnormals, is_twos_complement=False,
    )  # fmt: skip


def float_format(fmt: str) -> FloatFormat:
    row = get_format(fmt)
    assert isinstance(row, FloatFormat)
    return row


def between(fmt: str, points: int) -> np.ndarray:
    """Every value, and inputs between each two neighbours: `points` anywhere, 15 of few bits."""
    codes = np.arange(2 ** float_format(fmt).bits, dtype=np.uint8)
    values = np.unique(decode(codes, fmt).astype(float))
    grid = values[np.isfinite(values)]
    part = np.concatenate([np.random.default_rng(3).random(points), np.arange(1, 16) / 16])
    inside = grid[:-1, None] + np.diff(grid)[:, None] * part
    return np.concatenate([grid, inside.reshape(-1)])


@pytest.mark.parametrize("k", [1, 3, 8])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("fmt", [*OCP, *OTHERS])
def test_rules_are_those_of_gfloat(fmt: str, rule: str, k: int) -> None:
    """StochasticFastest, StochasticFast and Stochastic of gfloat, given the same random bits.

    gfloat's documentation says that StochasticFastest is biased away from zero; its code, like
    the enumeration above, is biased toward it.
    """
    info = OCP.get(fmt) or described(fmt)
    assert info.max == float_format(fmt).largest
    x = between(fmt, 3)
    r = np.random.default_rng(k).integers(0, 2**k, x.size)
    got = quantize(x, fmt, rounding=Stochastic(k, rule), random_bits=r)
    want = np.array([
        gfloat.round_float(info, v, MODES[rule], sat=True, srbits=n, srnumbits=k)
        for v, n in zip(x.tolist(), r.tolist(), strict=True)
    ])  # fmt: skip
    same = (got == want) & (np.signbit(got) == np.signbit(want))
    assert same.all(), (x[~same][:3], r[~same][:3], got[~same][:3], want[~same][:3])


# --- conversion instructions -------------------------------------------------------------------


def ups(name: str, x: float, shift: int, bits: int) -> np.ndarray:
    """How many codes above x truncated a one-lane conversion puts x, for every random integer."""
    row = get_conversion(name)
    fmt = row.target_format
    words = np.arange(2**bits, dtype=np.uint32) << np.uint32(shift)
    operands = np.full(2**bits, x, np.float16 if row.operand == "float16" else np.float32)
    assert float(operands[0]) == x
    low = encode_exact(quantize(x, row.target, rounding="toward_zero"), fmt)
    return convert(operands, name, words).astype(np.int64) - low


@pytest.mark.parametrize(("kind", "bits"), [("bf16", 7), ("tf32", 10)])
@pytest.mark.parametrize("d", [0.0, 0.75])
def test_tenstorrent_is_biased_away_from_zero_and_moves_exact_values(
    kind: str, bits: int, d: float
) -> None:
    """>= counts one random integer of 2^23 too many, whatever is discarded, nothing included."""
    up = ups(f"tenstorrent-sfpstochrnd-{kind}", 1 + d * 2.0**-bits, 0, 23)
    assert up.sum() == d * 2**23 + 1
    assert np.flatnonzero(up).tolist() == list(range(int(d * 2**23) + 1))


@pytest.mark.parametrize(
    ("x", "ulp"),
    [(1 + 77 * 2.0**-17, 2.0**-3), (2.0**-10 * 1.37109375, 2.0**-9), (2.0**-40, 2.0**-9),
     (2.0**-12 * (1 + 2.0**-23), 2.0**-9)],
)  # fmt: skip
def test_amd_loses_what_lies_below_its_twenty_bits(x: float, ulp: float) -> None:
    """E[up] = floor(2^20 d) 2^-20: subnormal results lose the bits shifted out, toward zero."""
    steps = Fraction(x) / Fraction(ulp)
    d = steps - math.floor(steps)
    assert ups("amd-cdna4-cvt-sr-fp8", x, 12, 20).sum() == math.floor(d * 2**20)


def test_srnd_to_half_hardly_rounds_subnormal_results_up() -> None:
    """Below 2^-14 the 13 bits, added at the operand's last, do not reach an ulp of the result.

    From 2^-18 on an ulp of float16 is 2^17 units of the operand's last place: only a fraction
    within 2^13 of them can carry, and d = 3/4 never goes up.
    """
    ulp = 2.0**-24
    assert ups("intel-srnd-f16", (64 + 0.75) * ulp, 0, 13).sum() == 0
    assert ups("intel-srnd-f16", (64 + 1 - 2.0**-6) * ulp, 0, 13).sum() == 2**13 - 2**11
    assert ups("intel-srnd-f16", 1 + 0.75 * 2.0**-10, 0, 13).mean() == 0.75


@pytest.mark.parametrize("low", [1.0, 2.0**-16, 2.0**-14])
def test_srnd_to_bf8_is_without_bias_for_every_half(low: float) -> None:
    """Eight bits cover all that HF -> BF8 discards, subnormals too."""
    ulp = 2.0**-16 if low <= 2.0**-14 else 0.25
    for n in (0, 1, 77, 128, 255):
        assert ups("intel-srnd-bf8", low + n / 256 * ulp, 0, 8).mean() == n / 256


@pytest.mark.parametrize("name", ["nvidia-cvt-rs-bf16x2", "nvidia-b300-cvt-rs-e4m3x4"])
def test_a_lane_of_nvidia_is_srff_over_all_its_integers(name: str) -> None:
    """The same mean as the generic rule: floor(2^k d) 2^-k, reversed bits or not."""
    row = get_conversion(name)
    k, f, lanes = row.random_bits, row.target_format.fraction_bits, len(row.lanes)
    x = np.float32(1 + 0.6 * 2.0**-f)
    d = Fraction(float(x) - 1) * 2**f
    for lane in range(lanes):
        words = np.arange(2**k, dtype=np.uint32) << np.uint32(row.lanes[lane].shift)
        codes = convert(np.full(lanes * 2**k, x), name, words).reshape(-1, lanes)[:, lane]
        assert (codes != codes.min()).sum() == math.floor(d * 2**k)
