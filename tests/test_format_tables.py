"""Every rounding of every table format, against its exact twin and against the definition."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from tapeout.formats import CodebookFormat, Format, Stochastic, decode, encode, quantize
from tapeout.formats.catalog import get_element
from tapeout.formats.rounding import Overflow, Rounding
from tapeout.formats.tables.conversion import encode_table, quantize_table
from tapeout.formats.tables.floats import table_of
from tapeout.formats.tables.reference import table_code_exact
from tapeout.formats.tables.search import count_reached, searchable
from tapeout.formats.tables.table import edge_of, nearest_float32

ODD_BOOK = CodebookFormat(
    "odd", 2, (Fraction(-7, 3), Fraction(-1, 9), Fraction(5, 7), Fraction(10**6)), "a test"
)
ROWS: list[Format] = [
    *(
        get_element(name)
        for name in (
            "nf4", "linear2_4bit", "dynamic_8bit", "dynamic_8bit_unsigned", "posit8es0",
            "posit8es2", "posit5es1", "posit2es0", "posit3es4", "posit16es1", "posit16es4",
            "lns8g8", "lns8g8b0n", "lns4g1", "lns4g2", "lns5g1l", "lns6g4l", "binary8p1se",
            "binary8p1ue", "binary6p1sf", "binary7p1uf", "dlfloat16",
        )
    ),
    ODD_BOOK,
]  # fmt: skip
PLAIN = [r for r in Rounding if r is not Rounding.STOCHASTIC]
DRAWN = [Stochastic(k, rule) for k in (1, 3) for rule in ("srff", "srf", "src")]


def probes(row: Format) -> np.ndarray:
    """Rungs, thresholds, quarters of gaps, what lies beside them, and numbers past the ends."""
    table = table_of(row)
    assert table is not None
    rng = np.random.default_rng(4)
    quarters = (3 * table.values[:-1] + table.values[1:]) / 4
    points = np.unique(np.concatenate((table.values, table.middles, quarters)))
    if len(points) > 24:
        points = np.concatenate((points[:5], rng.choice(points, 10), points[-5:]))
    points = np.concatenate((points, np.nextafter(points, np.inf), np.nextafter(points, -np.inf)))
    noise = rng.standard_normal(12) * 2.0 ** rng.integers(-30, 30, 12)
    return np.concatenate((points, -points, noise, [0.0, -0.0, np.inf, -np.inf, 1e300]))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_rounding_equals_the_exact_twin(row: Format) -> None:
    table, x = table_of(row), probes(row)
    assert table is not None
    policies = [Overflow.SATURATE]
    if table.nan is not None and not table.not_real:
        policies += [Overflow.INFINITY, Overflow.NAN]
    for mode in [*PLAIN, *DRAWN]:
        bits = mode.bits if isinstance(mode, Stochastic) else 0
        random = np.random.default_rng(1).integers(0, 2**bits, x.size)
        for policy in policies:
            codes = encode_table(x, table, mode, policy, random)
            want = [
                table_code_exact(v, row, mode, policy, r)  # type: ignore[arg-type]
                for v, r in zip(x.tolist(), random.tolist(), strict=True)
            ]
            assert codes.tolist() == want, (mode, policy)


@pytest.mark.parametrize("name", ["nf4", "dynamic_8bit", "posit8es1", "lns8g8", "dlfloat16"])
@pytest.mark.parametrize("rule", ["srff", "srf", "src"])
def test_wide_random_integers_equal_the_exact_twin(name: str, rule: str) -> None:
    row: Any = get_element(name)
    mode = Stochastic(32 if name != "lns8g8" else 6, rule)
    rng = np.random.default_rng(2)
    x = np.concatenate((rng.standard_normal(60) * 0.7, [2.0**-31 * 1.25, 0.5, -0.5]))
    random = rng.integers(0, 2**mode.bits, x.size)
    codes = encode(x, name, rounding=mode, random_bits=random)
    want = [
        table_code_exact(v, row, mode, random=r)
        for v, r in zip(x.tolist(), random.tolist(), strict=True)
    ]
    assert codes.tolist() == want


@pytest.mark.parametrize("name", ["nf4", "posit8es1", "linear2_4bit", "binary8p1se"])
def test_stochastic_rounding_is_unbiased(name: str) -> None:
    """All integers r once each: srf and src give the number itself, to within 2^-k of a gap."""
    random = np.arange(256, dtype=np.int64)
    for x in (0.3, -0.77, 0.05, 0.999):
        for rule, bias in (("srf", 0.0), ("src", 0.0), ("srff", 0.5)):
            mode = Stochastic(8, rule)
            got = quantize(np.full(256, x), name, rounding=mode, random_bits=random)
            low, high = got.min(), got.max()
            assert low <= x <= high
            assert abs(got.mean() - x) <= (0.5 + bias) * (high - low) / 256


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_roundings_keep_their_word(row: Format) -> None:
    table = table_of(row)
    assert table is not None
    ends = table.values[table.top], -table.values[table.top] if table.mirrored else table.values[0]
    x = probes(row)
    if table.negative == "none" and table.mirrored:
        x, ends = x[x >= 0], (ends[0], 0.0)
    x = x[(x <= ends[0]) & (x >= ends[1])]
    x = x[np.abs(x) >= table.values[0]] if table.mirrored else x
    got = {mode: quantize_table(x, table, mode) for mode in PLAIN}
    # Values are rounded once to float64, by at most half an ulp.
    slack = np.spacing(np.abs(x)) * 0.6
    assert (got[Rounding.DOWN] <= x + slack).all() and (got[Rounding.UP] >= x - slack).all()
    if table.mirrored:
        assert (np.abs(got[Rounding.TOWARD_ZERO]) <= np.abs(x) + slack).all()
    codes = encode_table(x, table, Rounding.TO_ODD)
    inexact = got[Rounding.UP] != got[Rounding.DOWN]
    assert (codes[inexact] % 2 == 1).all()
    for mode in PLAIN:
        either = (got[mode] == got[Rounding.UP]) | (got[mode] == got[Rounding.DOWN])
        assert either.all()


@pytest.mark.parametrize("name", ["nf4", "lns8g8", "posit8es1", "dynamic_8bit"])
def test_float32_takes_the_same_codes(name: str) -> None:
    x = np.random.default_rng(3).standard_normal((50, 40)).astype(np.float32)
    assert (encode(x, name) == encode(x.astype(float), name)).all()
    out = quantize(x, name)
    assert out.dtype == np.float32 and out.shape == x.shape
    assert (encode(out, name) == encode(x, name)).all()


def test_philox_bits_do_not_depend_on_the_shape() -> None:
    x = np.random.default_rng(6).standard_normal(600)
    whole = encode(x, "nf4", rounding="stochastic", seed=5, stream=2)
    assert (
        encode(x.reshape(20, 30), "nf4", rounding="stochastic", seed=5, stream=2)
        == whole.reshape(20, 30)
    ).all()
    assert (encode(x[:100], "nf4", rounding="stochastic", seed=5, stream=2) == whole[:100]).all()
    assert (encode(x, "nf4", rounding="stochastic", seed=6, stream=2) != whole).any()


def test_edges_and_single_roundings() -> None:
    third = Fraction(1, 3)
    edge, exact = edge_of(third)
    assert not exact and Fraction(edge) > third > Fraction(float(np.nextafter(edge, 0)))
    assert edge_of(Fraction(3, 8)) == (0.375, True)
    # A hair above a tie of float32, which float64 cannot see.
    tie = 1 + Fraction(1, 2**24)
    assert nearest_float32(tie) == 1.0
    assert nearest_float32(tie + Fraction(1, 2**80)) == 1 + 2.0**-23


LISTS = {
    "none": [],
    "one": [0.3],
    "tiny first": [5e-324, 0.5, 1.0],
    "zero first": [0.0, 1.0],
    "equal": [0.0, 0.0, 1.0],
    "both signs": [-2.0, -1e-30, 0.0, 1e-30, 7.0],
    "wide": [-1e300, 1e300],
    "dense": np.random.default_rng(1).standard_normal(3000).tolist(),
    "decades": np.exp(np.random.default_rng(2).uniform(-300, 300, 5000)).tolist(),
}


@pytest.mark.parametrize("name", LISTS)
def test_search_equals_numpy(name: str) -> None:
    edges = np.sort(np.array(LISTS[name], float))
    beside = (np.nextafter(edges, np.inf), np.nextafter(edges, -np.inf))
    extremes = [0.0, -0.0, np.inf, -np.inf, 1e308, -1e308, 5e-324]
    x = np.concatenate((edges, *beside, extremes, np.random.default_rng(3).standard_normal(1000)))
    want = np.searchsorted(edges, x, side="right")
    assert (count_reached(x, searchable(edges)) == want).all()


def test_shapes_and_kinds_are_kept() -> None:
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((6, 5)))
    for name in ("nf4", "posit8", "lns8g8", "dlfloat16", "q3.4"):
        codes = encode(x.mT, name)
        assert codes.shape == (5, 6) and codes.dtype in (torch.uint8, torch.uint16)
        values = quantize(x.mT, name)
        assert values.dtype == torch.float64 and values.is_contiguous()
        again = quantize(x.numpy().T, name)
        assert np.array_equal(values.numpy(), again)
        assert quantize(x[:0], name).shape == (0, 5)
        assert quantize(x[0, 0], name).shape == ()
        assert decode(codes[0, 0], name).shape == ()
        assert isinstance(quantize(0.3, name), float) and isinstance(encode(0.3, name), int)
