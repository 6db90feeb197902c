"""Random sources: kernels against exact references, published answers and known structure."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tapeout.formats.random import (
    fill_random,
    fill_words,
    random_dtype,
    random_integer_reference,
    random_word_reference,
)

WORD = st.integers(0, 2**64 - 1)


def draw(bits: int, seed: int, stream: int, first: int, count: int) -> np.ndarray:
    scratch = np.full(count + 32, 0xA5, random_dtype(bits))
    key = np.uint64(seed), np.uint64(stream)
    out: np.ndarray = fill_random(scratch, bits, *key, np.uint64(first), count)
    return out


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 32), WORD, WORD, st.integers(0, 2**48), st.integers(0, 70))
@example(8, 2**64 - 1, 2**64 - 1, 2**36 - 3, 40)  # the low counter word wraps inside the draw
@example(1, 0, 0, 15, 1)
def test_few_random_bits_equal_the_reference(
    bits: int, seed: int, stream: int, first: int, count: int
) -> None:
    got = draw(bits, seed, stream, first, count)
    want = [random_integer_reference(seed, stream, first + i, bits) for i in range(count)]
    assert got.dtype == random_dtype(bits)
    assert got.tolist() == want


def test_an_element_does_not_depend_on_where_a_draw_starts() -> None:
    for bits in (3, 8, 13, 16, 20, 32):
        whole = draw(bits, 5, 6, 0, 300)
        for first in (1, 7, 16, 33, 250):
            assert draw(bits, 5, 6, first, 50).tolist() == whole[first : first + 50].tolist()


def test_lanes_are_the_little_endian_parts_of_the_words() -> None:
    words = np.empty(72, np.uint32)
    words = fill_words(words, np.uint64(1), np.uint64(2), np.uint64(0), 64).copy()
    assert words.tolist() == [random_word_reference(1, 2, i) for i in range(64)]
    assert draw(32, 1, 2, 0, 64).tolist() == words.tolist()
    assert draw(16, 1, 2, 0, 128).tolist() == words.astype("<u4").view("<u2").tolist()
    assert draw(8, 1, 2, 0, 256).tolist() == words.astype("<u4").view("u1").tolist()
    assert draw(5, 1, 2, 0, 256).tolist() == (words.astype("<u4").view("u1") >> 3).tolist()


@pytest.mark.parametrize("bits", [1, 4, 8, 9, 16, 17, 24])
def test_few_bit_integers_are_uniform(bits: int) -> None:
    r = draw(bits, 3, 4, 0, 200_000).astype(np.float64)
    span = 2.0**bits
    error = np.sqrt((1 - span**-2) / 12 / r.size)  # standard deviation of the mean of r / 2^bits
    assert abs(r.mean() / span - (1 - 1 / span) / 2) < 4 * error
