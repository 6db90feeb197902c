"""Codebooks and nibble packing against rational arithmetic and the published lists."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy.stats import norm

from tapeout.formats.errors import InputError
from tapeout.formats.packing import pack_nibbles, packed_columns, unpack_nibbles
from tapeout.formats.tables.codebook import (
    CODEBOOKS,
    DYNAMIC_TREE_3BIT,
    DYNAMIC_TREE_4BIT,
    LINEAR2_3BIT,
    LINEAR2_4BIT,
    CodebookFormat,
    decode,
    encode,
)
from tapeout.formats.tables.codebooks import (
    ALL_CODEBOOKS,
    DYNAMIC_8BIT,
    DYNAMIC_8BIT_UNSIGNED,
    NF4,
    dynamic_map,
)

BOOKS = pytest.mark.parametrize("book", [*CODEBOOKS, NF4], ids=lambda book: book.name)
DYADIC = CodebookFormat(
    "dyadic", 2, tuple(Fraction(v) for v in ("-1/2", "0", "1/2", "1")), "a test"
)


def nearest(x: float, book: CodebookFormat) -> int:
    """The nearest code by exact distances, a tie to the even code: no threshold involved."""
    gaps = [abs(Fraction(x) - value) for value in book.values]
    codes = [code for code, gap in enumerate(gaps) if gap == min(gaps)]
    return codes[0] if len(codes) == 1 else next(code for code in codes if code % 2 == 0)


def test_linear2_is_the_published_list() -> None:
    squares = [-225, -169, -121, -81, -49, -25, -9, 0, 1, 9, 25, 49, 81, 121, 169, 225]
    thresholds = [-394, -290, -202, -130, -74, -34, -9, 1, 10, 34, 74, 130, 202, 290, 394]
    assert LINEAR2_4BIT.values == tuple(Fraction(s, 225) for s in squares)
    assert LINEAR2_4BIT.thresholds == tuple(Fraction(t, 450) for t in thresholds)
    assert LINEAR2_4BIT.zero_code == 7


def test_other_lists() -> None:
    tree = [0.0055, 0.0325, 0.0775, 0.2125, 0.4375, 0.6625, 0.8875]
    assert [float(v) for v in DYNAMIC_TREE_4BIT.values] == [*(-v for v in tree[::-1]), 0, *tree, 1]
    rounded = [round(float(v), 4) for v in LINEAR2_3BIT.values]
    assert rounded == [-1, -0.5102, -0.1837, 0, 0.0204, 0.1837, 0.5102, 1]
    signed = [-0.775, -0.325, -0.055, 0, 0.055, 0.325, 0.775, 1]
    assert [float(v) for v in DYNAMIC_TREE_3BIT.values] == signed


def test_nf4_is_the_quantiles_of_a_normal_distribution() -> None:
    """QLoRA: 8 quantiles up and 7 down from 0, from 1 - (1/32 + 1/30)/2 on, scaled to 1."""
    last = 1 - (1 / 32 + 1 / 30) / 2
    up = norm.ppf(np.linspace(last, 0.5, 9)[:-1])
    down = -norm.ppf(np.linspace(last, 0.5, 8)[:-1])
    values = np.sort(np.concatenate((up, down, [0.0]))) / up.max()
    assert np.allclose([float(v) for v in NF4.values], values, rtol=0, atol=2e-7)
    assert all(float(np.float32(float(v))) == v for v in NF4.values) and NF4.zero_code == 7


@pytest.mark.parametrize("signed", [True, False])
def test_dynamic_map_is_that_of_torchao_to_two_ulp(signed: bool) -> None:
    """torchao, as bitsandbytes, builds the map in float32 and leaves its last bits to torch."""
    theirs = pytest.importorskip("torchao.optim.quant_utils").create_dynamic_map(signed)
    book = DYNAMIC_8BIT if signed else DYNAMIC_8BIT_UNSIGNED
    ours = np.array([float(v) for v in book.values])
    assert np.allclose(ours, theirs, rtol=2.0**-22, atol=0)
    assert (ours[0] < 0) == signed and book.values[-1] == 1


def test_dynamic_map_of_four_bits_is_the_dynamic_tree() -> None:
    assert dynamic_map(4, signed=True) == DYNAMIC_TREE_4BIT.values
    assert dynamic_map(3, signed=True) == DYNAMIC_TREE_3BIT.values
    assert DYNAMIC_8BIT.zero_code == 127 and DYNAMIC_8BIT_UNSIGNED.zero_code == 0


def test_books_of_the_catalog_hold_0_and_reach_1() -> None:
    for book in ALL_CODEBOOKS:
        assert 0 in book.values and max(-book.values[0], book.values[-1]) == 1


def test_a_book_of_ones_own() -> None:
    """Values of any size; decoding takes float64 where float32 would blur or lose them."""
    values = (Fraction(-300), Fraction(1, 3), Fraction(1, 3) + Fraction(1, 2**40), Fraction(10**40))
    book = CodebookFormat("own", 2, values, "a test")
    x = np.array([-1e9, 0.0, 0.3333333333333, 1.0, 4e39, 6e39, 1e300])
    assert book.encode(x).tolist() == [nearest(v, book) for v in x.tolist()]
    codes = np.arange(4, dtype=np.uint8)
    assert book.decode(codes).tolist() == [float(v) for v in values]
    with pytest.raises(InputError, match="0 is not one of its values"):
        _ = book.zero_code
    with pytest.raises(InputError, match="float32 cannot hold"):
        book.quantize(np.ones(1, np.float32))


@BOOKS
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_decision_beside_every_threshold(book: CodebookFormat, dtype: type[np.floating]) -> None:
    beside = [dtype(float(t)) for t in book.thresholds]
    for direction in (-2, 2):
        beside += [np.nextafter(t, dtype(direction)) for t in beside]
    x = np.array(beside, dtype)
    want = [nearest(float(v), book) for v in x]
    assert book.encode(x).tolist() == want
    assert encode(torch.from_numpy(x), book).tolist() == want


@BOOKS
def test_random_values_go_to_the_nearest(book: CodebookFormat) -> None:
    x = np.random.default_rng(1).uniform(-1.2, 1.2, 500).astype(np.float32)
    want = [nearest(float(v), book) for v in x]
    codes = encode(torch.from_numpy(x).reshape(50, 10), book)
    assert codes.dtype == torch.uint8 and codes.flatten().tolist() == want
    decoded = decode(codes, book).flatten().tolist()
    assert decoded == [np.float32(float(book.values[c])) for c in want]
    assert book.quantize(x).tolist() == decoded


def test_exact_ties_go_to_the_even_code() -> None:
    ties = torch.tensor([-0.25, 0.25, 0.75])
    assert encode(ties, DYADIC).tolist() == [0, 2, 2]


@BOOKS
def test_codewords_are_fixed_points_and_ends_saturate(book: CodebookFormat) -> None:
    codes = torch.arange(2**book.bits, dtype=torch.uint8)
    assert torch.equal(encode(decode(codes, book), book), codes)
    assert encode(torch.tensor([-float("inf"), -7.0, 0.0]), book).tolist() == [0, 0, book.zero_code]


def test_nan_is_refused() -> None:
    with pytest.raises(InputError, match="linear2_4bit: NaN has no nearest"):
        encode(torch.tensor([0.0, float("nan")]), LINEAR2_4BIT)
    with pytest.raises(InputError, match="NaN"):
        LINEAR2_4BIT.encode(np.array([np.nan], np.float32))


@pytest.mark.parametrize(
    ("bits", "values", "words"),
    [
        (2, [-1, 0, 1], "do not fill 2 bits"),
        (2, [-1, 0, 0, 1], "ascend"),
        (2, [-1, 0, "1e-17", 2**1000], "below 2\\^1000"),
        (1, [1, 1 + Fraction(1, 2**60)], "the same float64"),
    ],
)
def test_faulty_rows_are_refused(bits: int, values: list[int | str | Fraction], words: str) -> None:
    with pytest.raises(InputError, match=words):
        CodebookFormat("faulty", bits, tuple(Fraction(v) for v in values), "a test")


@pytest.mark.parametrize("columns", [0, 1, 2, 5, 63, 64])
def test_packing_round_trip(columns: int) -> None:
    codes = torch.randint(0, 16, (3, 4, columns), generator=torch.Generator().manual_seed(1))
    codes = codes.to(torch.uint8)
    packed = pack_nibbles(codes)
    assert packed.dtype == torch.uint8
    assert packed.shape == (3, 4, (columns + 1) // 2) == (3, 4, packed_columns(columns))
    assert torch.equal(unpack_nibbles(packed, columns), codes)


def test_low_nibble_is_the_even_column_and_rows_start_on_a_byte() -> None:
    codes = torch.tensor([[1, 2, 3], [4, 5, 6]], dtype=torch.uint8)
    assert pack_nibbles(codes).tolist() == [[0x21, 0x03], [0x54, 0x06]]


def test_packing_refusals() -> None:
    with pytest.raises(InputError, match="not uint8 from 0 to 15"):
        pack_nibbles(torch.tensor([[16]], dtype=torch.uint8))
    with pytest.raises(InputError, match="not uint8"):
        pack_nibbles(torch.tensor([[1]]))
    with pytest.raises(InputError, match="take 3 bytes"):
        unpack_nibbles(torch.zeros(2, 2, dtype=torch.uint8), 5)
