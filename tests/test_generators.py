"""Random sources: kernels against exact references, published answers and known structure."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tapeout.formats.errors import InputError
from tapeout.formats.generators import (
    RANDOM_SOURCES,
    SEQUENCES,
    Generator,
    draw_words,
    draw_words_reference,
    initial_state,
)
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


@pytest.mark.parametrize("source", RANDOM_SOURCES)
@pytest.mark.parametrize(("seed", "stream"), [(0, 0), (1, 0), (2**64 - 1, 7), (-3, 2**63)])
def test_draws_equal_the_reference(source: str, seed: int, stream: int) -> None:
    words = draw_words(source, 301, seed, stream)
    assert words.dtype == np.uint32
    assert words.tolist() == draw_words_reference(source, 301, seed, stream)
    assert draw_words(source, 5, seed, stream).tolist() == words[:5].tolist()
    assert draw_words(source, 0, seed, stream).size == 0


@pytest.mark.parametrize("source", SEQUENCES)
def test_lanes_and_states_continue_exactly(source: str) -> None:
    row = SEQUENCES[source]
    start = Generator.seeded(source, 11, 4, lanes=32)
    whole, end = start.draw(40)
    first, between = start.draw(14)
    rest, after = between.draw(26)
    assert np.vstack([first, rest]).tolist() == whole.tolist()
    assert after == end
    for lane, state in enumerate(start.lanes):
        words: list[int] = []
        while len(words) < 40:
            output, state = row.step(state)
            words += output
        assert whole[:, lane].tolist() == words
        assert end.lanes[lane] == state
    assert draw_words(source, 40, 11, 4).tolist() == whole[:, 0].tolist()


@pytest.mark.parametrize(
    ("source", "state", "words", "after"),
    [
        ("amd_lfsr", (0x80000000,), (197,), (197,)),
        ("amd_lfsr", (1,), (2,), (2,)),
        ("amd_lfsr", (0xC0000001,), (0x80000002 ^ 197,), (0x80000002 ^ 197,)),
        ("tenstorrent", (0,), (0,), (0x80000000,)),  # even parity shifts a one in
        ("tenstorrent", (1,), (1,), (0,)),
        ("tenstorrent", (0x80000000,), (0x80000000,), (0x40000000,)),
        ("tenstorrent", (0x00200003,), (0x00200003,), (0x00100001,)),
        ("tenstorrent", (0x80200003,), (0x80200003,), (0xC0100001,)),
        # s1 = 0 gives no AND, so the output is s0; rotl(1, 55) = 2^55, rotl(1, 36) = 2^36
        ("xoroshiro128aox", (1, 0), (1, 0), (2**55 ^ 1 ^ 2**14, 2**36)),
        # sx = 0, sa = 2^63: rotl(sa, 1) | rotl(sa, 2) = 1 | 2; rotl(2^63, 55) = 2^54
        ("xoroshiro128aox", (2**63, 2**63), (3, 0), (2**54, 0)),
        # sx = 5 ^ 6 = 3, sa = 4: 3 ^ (8 | 16) = 27
        (
            "xoroshiro128aox",
            (5, 6),
            (27, 0),
            (5 << 55 ^ 3 ^ 3 << 14, 3 << 36),
        ),
    ],
)  # fmt: skip
def test_hand_computed_steps(source, state, words, after) -> None:  # type: ignore[no-untyped-def]
    assert SEQUENCES[source].step(state) == (words, after)
    got, end = Generator(source, (state,)).draw(len(words))
    assert (tuple(got[:, 0].tolist()), end.lanes) == (words, (after,))


def minimal_polynomial(bits: list[int]) -> tuple[int, int]:
    """(polynomial, degree) of a linear bit sequence: Berlekamp & Massey over GF(2)."""
    current, previous, degree, gap = 1, 1, 0, 1
    for n in range(len(bits)):
        odd = sum(bits[n - i] for i in range(degree + 1) if current >> i & 1) % 2
        if odd and 2 * degree <= n:
            current, previous = current ^ previous << gap, current
            degree, gap = n + 1 - degree, 1
        else:
            current ^= previous << gap if odd else 0
            gap += 1
    return int(f"{current:0{degree + 1}b}"[::-1], 2), degree


def power_of_x(exponent: int, polynomial: int, degree: int) -> int:
    """x^exponent modulo a polynomial over GF(2)."""

    def reduce(a: int) -> int:
        while a.bit_length() > degree:
            a ^= polynomial << (a.bit_length() - degree - 1)
        return a

    value = 1
    for bit in bin(exponent)[2:]:
        value = reduce(sum(1 << 2 * i for i in range(degree) if value >> i & 1))
        value = reduce(value << 1) if bit == "1" else value
    return value


MERSENNE = {
    3: (7,),
    29: (233, 1103, 2089),
    32: (3, 5, 17, 257, 65537),
    128: (3, 5, 17, 257, 641, 65537, 274177, 6700417, 67280421310721),
}
TENSTORRENT_FACTORS = ((0b1101, 3), (0b100111010010011101001110100111, 29))


def is_primitive(polynomial: int, degree: int) -> bool:
    """x generates the field: its order is 2^degree - 1, by the prime factors of that number."""
    order = 2**degree - 1
    assert math.prod(MERSENNE[degree]) == order
    steps = [order // p for p in MERSENNE[degree] if p < order]
    return power_of_x(order, polynomial, degree) == 1 and all(
        power_of_x(n, polynomial, degree) != 1 for n in steps
    )


def engine_polynomial(source: str) -> tuple[int, int]:
    """The minimal polynomial of bit 0 of a state; XNOR registers are linear in the complement."""
    row, bits = SEQUENCES[source], list[int]()
    state = initial_state(source, 3, 0)
    for _ in range(2 * row.state_bits * len(row.stuck)):
        bits.append((state[0] ^ row.stuck[0]) & 1)
        state = row.step(state)[1]
    return minimal_polynomial(bits)


def test_the_stuck_state_never_changes() -> None:
    for row in SEQUENCES.values():
        assert row.step(row.stuck)[1] == row.stuck


@pytest.mark.parametrize("source", ["amd_lfsr", "xoroshiro128aox"])
def test_every_other_state_lies_on_one_cycle(source: str) -> None:
    row = SEQUENCES[source]
    polynomial, degree = engine_polynomial(source)
    assert degree == row.state_bits * len(row.stuck)
    assert is_primitive(polynomial, degree)
    assert row.period == 2**degree - 1


def test_engines_are_the_published_ones() -> None:
    assert engine_polynomial("amd_lfsr") == (2**32 | 197, 32)
    polynomial, degree = engine_polynomial("xoroshiro128aox")
    # The jump of 2^64 steps that Blackman & Vigna publish with xoroshiro128(55, 14, 36).
    jump = 0xD86B048B86AA9922 << 64 | 0xBEAC0467EBA5FACB
    assert power_of_x(2**64, polynomial, degree) == jump


def test_the_tenstorrent_taps_are_not_primitive() -> None:
    polynomial, degree = engine_polynomial("tenstorrent")
    assert (polynomial, degree) == (2**32 | 0x80200003, 32)
    (short, _), (long, _) = TENSTORRENT_FACTORS
    assert polynomial == sum_of_shifts(long, short)
    assert all(is_primitive(*factor) for factor in TENSTORRENT_FACTORS)
    row = SEQUENCES["tenstorrent"]
    assert row.period == math.lcm(7, 2**29 - 1)
    # The long factor, applied to any state, leaves one on the cycle of seven.
    state: tuple[int, ...] = (0x12345678,)
    cycle = 0
    for n in range(30):
        cycle ^= (state[0] ^ row.stuck[0]) if long >> n & 1 else 0
        state = row.step(state)[1]
    start = (cycle ^ row.stuck[0],)
    words, after = Generator("tenstorrent", (start,)).draw(7)
    assert len(set(words[:, 0].tolist())) == 7
    assert after.lanes == (start,)


def sum_of_shifts(a: int, b: int) -> int:
    """The product of two polynomials over GF(2)."""
    product = 0
    for n in range(b.bit_length()):
        product ^= a << n if b >> n & 1 else 0
    return product


def test_register_words_are_shifted_copies() -> None:
    """The documented weakness of both chips: 31 of 32 bits of a word are those before it."""
    w = draw_words("tenstorrent", 1000, 1)
    assert np.array_equal(w[1:] & 0x7FFFFFFF, w[:-1] >> 1)
    w = draw_words("amd_lfsr", 1000, 1)
    assert np.array_equal((w[1:] ^ 197 * (w[:-1] >> 31)) >> 1, w[:-1] & 0x7FFFFFFF)


@pytest.mark.parametrize("source", RANDOM_SOURCES)
def test_words_are_uniform_to_first_order(source: str) -> None:
    w = draw_words(source, 100_000, 5)
    ones = np.unpackbits(w.view(np.uint8)).mean()
    assert abs(ones - 0.5) < 6 * 0.5 / np.sqrt(100_000)  # shifted copies: one fresh bit a word


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: draw_words("phillox", 3), 'source = "phillox" is not one of .*did you mean "phil'),
        (lambda: draw_words("philox", -1), "count = -1 is negative"),
        (lambda: Generator("philox", ((1,),)), 'source = "philox" is not one of amd_lfsr'),
        (lambda: Generator("amd_lfsr", ()), "no lanes"),
        (lambda: Generator("amd_lfsr", ((0,),)), r"state \(0,\) never changes"),
        (lambda: Generator("tenstorrent", ((2**32 - 1,),)), "never changes"),
        (lambda: Generator("xoroshiro128aox", ((1,),)), "is not 2 integer"),
        (lambda: Generator("amd_lfsr", ((2**32,),)), "is not 1 integer"),
        (lambda: Generator("xoroshiro128aox", ((1, 2),)).draw(3), "count = 3 is not a multiple"),
    ],
)
def test_bad_input_is_refused(make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match=message):
        make()
