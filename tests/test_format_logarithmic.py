"""Logarithmic formats: values and decisions by integer powers, and LNS-Madam's own equation."""

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from tapeout.formats import LogFormat, Stochastic, decode, encode, get_format, quantize
from tapeout.formats.tables.reference import compare_with_power

NAMES = ["lns8g8", "lns8g8b0n", "lns8g1", "lns8g2n", "lns6g32", "lns10g16", "lns9g128b300"]


def row_of(name: str) -> LogFormat:
    row = get_format(name)
    assert isinstance(row, LogFormat)
    return row


def exponents(row: LogFormat) -> list[Fraction]:
    """log2 of every nonzero magnitude, ascending."""
    ks = range(int(row.zero), 1 << (row.bits - 1))
    bias = 1 << (row.bits - 2) if row.bias is None else row.bias
    return [Fraction(k - bias, row.gamma) for k in ks]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_are_powers_rounded_once(name: str, dtype: type[np.floating]) -> None:
    """No other number of the dtype is nearer: the power lies between the midpoints around."""
    row = row_of(name)
    table = row.table.values if dtype is np.float64 else row.table.values32
    assert table is not None
    for value, exponent in zip(table[int(row.zero) :], exponents(row), strict=True):
        x = Fraction(float(value))
        for other in (np.nextafter(value, dtype(0)), np.nextafter(value, dtype(np.inf))):
            middle = (x + Fraction(float(other))) / 2
            sign = compare_with_power(middle, exponent)
            assert sign == (1 if other > value else -1)


@pytest.mark.parametrize("name", NAMES)
def test_nearest_changes_at_the_half_logarithm(name: str) -> None:
    """The two float64 around 2^((k + 1/2) / gamma), told apart by integer powers, part there."""
    row = row_of(name)
    powers = exponents(row)
    first = int(row.zero)
    for rung, (low, high) in enumerate(pairwise(powers), first):
        half = (low + high) / 2
        x = 2.0 ** float(half)
        while compare_with_power(Fraction(x), half) > 0:
            x = math.nextafter(x, 0.0)
        while compare_with_power(Fraction(above := math.nextafter(x, math.inf)), half) < 0:
            x = above
        assert encode(np.array([x, above, -x, -above]), name).tolist() == [
            rung, rung + 1, rung | 1 << (row.bits - 1), (rung + 1) | 1 << (row.bits - 1)
        ]  # fmt: skip


def test_lns_madam_equation() -> None:
    """k = clamp(round(gamma log2 |x|), 0, 127); float64 logarithms are good enough off ties."""
    x = np.exp(np.random.default_rng(8).uniform(-3, 14, 50_000))
    scaled = 8 * np.log2(x)
    clear = np.abs(scaled - np.floor(scaled) - 0.5) > 1e-9
    want = np.clip(np.rint(scaled), 0, 127)
    assert (encode(x, "lns8g8b0n")[clear] == want[clear]).all()
    assert clear.mean() > 0.99


def test_underflow_is_a_named_choice() -> None:
    least = 2.0**-7
    x = np.array([0.0, -0.0, least * 0.49, least * 0.51, least * 0.71, -least * 1e-30, -least])
    rows = {u: LogFormat("rows", 5, 1, 8, underflow=u) for u in ("step", "half", "never")}
    got = {u: quantize(x, row) / least for u, row in rows.items()}
    assert got["step"].tolist() == [0, 0, 0, 0, 1, 0, -1]
    assert got["half"].tolist() == [0, 0, 0, 1, 1, 0, -1]
    assert got["never"].tolist() == [0, 0, 1, 1, 1, -1, -1]
    assert np.signbit(got["step"]).tolist() == [False, True, False, False, False, True, True]
    without = quantize(x, LogFormat("rows", 5, 1, 7, zero=False)) / least
    assert without.tolist() == [1, -1, 1, 1, 1, -1, -1]
    for row in rows.values():
        assert quantize(x, row, rounding="toward_zero").tolist()[2:6] == [0, 0, 0, 0]
        assert (quantize(x, row, rounding="up") / least).tolist()[2:6] == [1, 1, 1, 0]


def test_linear_domain_takes_the_nearer_value() -> None:
    """gamma = 1 alone has ties: halfway between 2^e and 2^(e + 1), to the even code."""
    x = np.random.default_rng(9).standard_normal(20_000) * 3
    values = decode(np.arange(256, dtype=np.uint8), "lns8g8l")
    best = np.abs(np.abs(x)[:, None] - np.unique(np.abs(values))).min(axis=1)
    assert np.allclose(np.abs(quantize(x, "lns8g8l") - x), best, rtol=1e-12, atol=1e-18)
    codes = encode(np.array([1.5, 3.0, 6.0]), "lns8g1l")
    assert (codes % 2 == 0).all() and quantize(1.5, "lns8g1") == 2.0


@pytest.mark.parametrize("rule", ["srff", "srf", "src"])
def test_stochastic_rounding_is_unbiased_in_the_logarithm(rule: str) -> None:
    """All 2^k integers r once each: the mean of k is gamma log2 x to within 2^-k."""
    random = np.arange(4096, dtype=np.int64)
    mode = Stochastic(12, rule)
    for x in (1.01, 3.3, 0.07, 1 / 3):
        codes = encode(np.full(4096, x), "lns8g8", rounding=mode, random_bits=random)
        mean = codes.astype(float).mean() - 64
        assert abs(mean - 8 * math.log2(x)) <= 2.0**-12


def test_thirty_two_random_bits_decide_as_powers_of_2_to_the_38() -> None:
    """Where x is nearest to a threshold the integers decide, not the float64 logarithm."""
    row = row_of("lns8g8")
    span = 2**32
    for k, t in ((70, 1), (64, span // 3), (90, span - 1), (40, 12345)):
        edge, _ = row.threshold(k - row.offset, t, span)
        x = np.array([math.nextafter(edge, 0), edge])
        random = np.full(2, span - t)
        codes = encode(x, "lns8g8", rounding=Stochastic(32), random_bits=random)
        assert codes.tolist() == [k, k + 1]
        exponent = (k - 64 + t / span) / 8
        assert abs(math.log2(edge) - exponent) < 1e-14
