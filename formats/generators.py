"""Random sources by name: Philox on a counter, and the generators that chips carry.

A sequential generator is a row: its state, its exact step, its kernel. Element i of a draw gets
the i-th output, in row-major order. `draw_words` seeds one from (seed, stream); whoever knows the
state of a chip's generator passes it to a `Generator` and gets words and the next state back.
Cost: Philox 0.5 ns a word, the sequential ones 1 to 3 ns (chains that no vector unit helps).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import InputError, choice, whole_number
from .jit import jit
from .random import fill_words, random_word_reference

State = tuple[int, ...]
_ONE, _1, _2, _31 = np.uint32(1), np.uint64(1), np.uint64(2), np.uint32(31)
_AMD_POLYNOMIAL = np.uint32(197)


def _rotate(x: int, places: int) -> int:
    return (x << places | x >> (64 - places)) % 2**64


def step_amd_lfsr(state: State) -> tuple[State, State]:
    """x' = (x << 1) ^ (197 if x[31] else 0); the output is the new state, as V_PRNG_B32 returns."""
    x = state[0]
    x = (x << 1) % 2**32 ^ (197 if x >> 31 else 0)
    return (x,), (x,)


def step_tenstorrent(state: State) -> tuple[State, State]:
    """The output is the old state s; s' = (not parity(s & 0x80200003)) << 31 | s >> 1."""
    s = state[0]
    even = 1 - (s & 0x80200003).bit_count() % 2
    return (s,), (even << 31 | s >> 1,)


def step_xoroshiro128aox(state: State) -> tuple[State, State]:
    """One 64-bit output, as its low and then its high word; the engine is xoroshiro128(55, 14, 36).

    sx = s0 ^ s1;  sa = s0 & s1;  output = sx ^ (rotl(sa, 1) | rotl(sa, 2));
    s0' = rotl(s0, 55) ^ sx ^ (sx << 14);  s1' = rotl(sx, 36)
    """
    s0, s1 = state
    sx, sa = s0 ^ s1, s0 & s1
    out = sx ^ (_rotate(sa, 1) | _rotate(sa, 2))
    return (out % 2**32, out >> 32), (_rotate(s0, 55) ^ sx ^ (sx << 14) % 2**64, _rotate(sx, 36))


@jit
def fill_amd_lfsr(words, state):  # type: ignore[no-untyped-def]
    """words (steps, lanes, 1) from state (lanes, 1), which is left at the next state."""
    for lane in range(words.shape[1]):
        x = np.uint32(state[lane, 0])
        for t in range(words.shape[0]):
            x = np.uint32(x << _ONE) ^ (_AMD_POLYNOMIAL * np.uint32(x >> _31))
            words[t, lane, 0] = x
        state[lane, 0] = x


@jit
def fill_tenstorrent(words, state):  # type: ignore[no-untyped-def]
    """words (steps, lanes, 1) from state (lanes, 1), which is left at the next state."""
    for lane in range(words.shape[1]):
        s = np.uint32(state[lane, 0])
        for t in range(words.shape[0]):
            words[t, lane, 0] = s
            odd = np.uint32(s ^ (s >> _ONE) ^ (s >> np.uint32(21)) ^ (s >> _31))  # taps 0 1 21 31
            s = np.uint32((~odd & _ONE) << _31) | np.uint32(s >> _ONE)
        state[lane, 0] = s


@jit
def fill_xoroshiro128aox(words, state):  # type: ignore[no-untyped-def]
    """words (steps, lanes, 2) from state (lanes, 2), which is left at the next state."""
    for lane in range(words.shape[1]):
        s0, s1 = state[lane, 0], state[lane, 1]
        for t in range(words.shape[0]):
            sx, sa = s0 ^ s1, s0 & s1
            left = (sa << _1) | (sa >> np.uint64(63))
            right = (sa << _2) | (sa >> np.uint64(62))
            out = sx ^ (left | right)
            words[t, lane, 0] = np.uint32(out & np.uint64(0xFFFFFFFF))
            words[t, lane, 1] = np.uint32(out >> np.uint64(32))
            s0 = ((s0 << np.uint64(55)) | (s0 >> np.uint64(9))) ^ sx ^ (sx << np.uint64(14))
            s1 = (sx << np.uint64(36)) | (sx >> np.uint64(28))
        state[lane, 0], state[lane, 1] = s0, s1


@dataclass(frozen=True)
class Sequence:
    """A sequential generator.

    Attributes:
        state_bits: width of each of the integers of a state.
        stuck: the one state that never changes; a state is refused if it is this one.
        period: steps until every state has returned: the length of the longest cycle.
        words: 32-bit words that a step puts out.
        step: the exact reference: state -> (words, next state).
        fill: its kernel: fill(words (steps, lanes, words), state (lanes, integers) uint64).
        weakness: what its numbers are known to be bad at.
    """

    name: str
    state_bits: int
    stuck: State
    period: int
    words: int
    step: Callable[[State], tuple[State, State]]
    fill: Callable[..., Any]
    weakness: str
    source: str


SEQUENCES = {
    row.name: row
    for row in (
        Sequence(
            "amd_lfsr", 32, (0,), 2**32 - 1, 1, step_amd_lfsr, fill_amd_lfsr,
            weakness="linear over GF(2); a word is its predecessor moved by one bit, so that "
            "neighbouring elements round up together",
            source="V_PRNG_B32: AMD CDNA4 ISA (2025), 7.3; ROCm COMGR",
        ),
        Sequence(
            "tenstorrent", 32, (2**32 - 1,), 7 * (2**29 - 1), 1, step_tenstorrent, fill_tenstorrent,
            weakness="affine over GF(2); a word is its predecessor moved by one bit; the taps are "
            "not primitive, x^32 + x^31 + x^21 + x + 1 = (x^3 + x^2 + 1) times one of degree 29: "
            "one state in eight returns after 2^29 - 1 steps, seven of them after 7; the "
            "documentation itself calls the statistical properties poor",
            source="AdvancePRNG: tenstorrent/tt-isa-documentation, WormholeB0, VectorUnit.md",
        ),
        Sequence(
            "xoroshiro128aox", 64, (0, 0), 2**128 - 1, 2, step_xoroshiro128aox,
            fill_xoroshiro128aox,
            weakness="passes BigCrush and PractRand; slightly non-uniform outputs, Hamming-weight "
            "dependencies and traces of linearity under dedicated tests",
            source="Graphcore IPU: Hanlon & Felix, IEEE Trans. Comput. 72(5), 2023, "
            "arXiv 2203.04058; listing at jameswhanlon.com",
        ),
    )
}  # fmt: skip

RANDOM_SOURCES = ("philox", *SEQUENCES)


def initial_state(source: str, seed: int, stream: int, lane: int = 0) -> State:
    """The state that (seed, stream) select, our own choice: a chip is seeded by its software.

    It is made of the Philox words 4 lane .. 4 lane + 3 of (seed, stream): the first of them that
    is not the stuck state (32-bit states), or (w0 + 2^32 w1, w2 + 2^32 w3); in the one case in
    2^128 where that leaves the stuck state, 1 or (1, 0).
    """
    row = SEQUENCES[choice(source, SEQUENCES, "source", "initial_state")]
    w = [random_word_reference(seed % 2**64, stream % 2**64, 4 * lane + i) for i in range(4)]
    candidates: list[State] = [(x,) for x in w]
    if row.state_bits == 64:
        candidates = [(w[0] | w[1] << 32, w[2] | w[3] << 32)]
    return next((s for s in candidates if s != row.stuck), (1, 0)[: len(row.stuck)])


@dataclass(frozen=True)
class Generator:
    """A chip's generator in a known state; `lanes` holds one state for each of its lanes.

    `Generator("tenstorrent", ((s0,), ..., (s31,)))` is the vector unit of a Tensix tile: the words
    of a draw, flattened, are those of elements that walk over its lanes. Frozen: a draw returns
    the generator that comes after it.

    Raises:
        InputError: unknown source; a state of the wrong size; the state that never changes.
    """

    source: str
    lanes: tuple[State, ...]

    def __post_init__(self) -> None:
        row = SEQUENCES[choice(self.source, SEQUENCES, "source", "generator")]
        if not self.lanes:
            raise InputError(f"generator {row.name}: no lanes; pass at least one state")
        for state in self.lanes:
            if len(state) != len(row.stuck) or not all(0 <= s < 2**row.state_bits for s in state):
                raise InputError(
                    f"generator {row.name}: state {state} is not {len(row.stuck)} integer(s) "
                    f"from 0 to 2^{row.state_bits} - 1"
                )
            if state == row.stuck:
                raise InputError(f"generator {row.name}: state {state} never changes; use another")

    @classmethod
    def seeded(cls, source: str, seed: int, stream: int = 0, lanes: int = 1) -> "Generator":
        """The generator that `draw_words` starts from, with as many lanes as wanted."""
        choice(source, SEQUENCES, "source", "generator")
        return cls(source, tuple(initial_state(source, seed, stream, n) for n in range(lanes)))

    def draw(self, count: int) -> tuple[NDArray[np.uint32], "Generator"]:
        """(count, lanes) words, every lane in its own order, and the generator after them.

        Raises:
            InputError: count is negative, or would split a 64-bit output.
        """
        row = SEQUENCES[self.source]
        if count < 0 or count % row.words:
            raise InputError(f"draw: count = {count} is not a multiple of {row.words} from 0 on")
        words = np.empty((count // row.words, len(self.lanes), row.words), np.uint32)
        state = np.array(self.lanes, np.uint64)
        row.fill(words, state)
        after = Generator(self.source, tuple(tuple(map(int, s)) for s in state))
        return words.transpose(0, 2, 1).reshape(count, len(self.lanes)), after


def draw_words(source: str, count: int, seed: int = 0, stream: int = 0) -> NDArray[np.uint32]:
    """`count` 32-bit words of a random source, selected by 64-bit seed and stream.

    Args:
        source: one of RANDOM_SOURCES. "philox": word i of (seed, stream), as in `random.py`. Else
            the first words of one lane that starts at `initial_state(source, seed, stream)`.

    Raises:
        InputError: unknown source; negative count.
    """
    choice(source, RANDOM_SOURCES, "source", "draw_words")
    if count < 0:
        raise InputError(f"draw_words: count = {count} is negative")
    seed, stream = whole_number(seed, "seed"), whole_number(stream, "stream")
    if source == "philox":
        key = np.uint64(seed % 2**64), np.uint64(stream % 2**64)
        words: NDArray[np.uint32] = fill_words(
            np.empty(count + 8, np.uint32), *key, np.uint64(0), count
        )
        return words
    whole = count + count % SEQUENCES[source].words
    return Generator.seeded(source, seed, stream).draw(whole)[0].reshape(-1)[:count]


def draw_words_reference(source: str, count: int, seed: int, stream: int) -> list[int]:
    """The exact twin of `draw_words`."""
    if source == "philox":
        return [random_word_reference(seed % 2**64, stream % 2**64, i) for i in range(count)]
    state, words = initial_state(source, seed, stream), list[int]()
    while len(words) < count:
        output, state = SEQUENCES[source].step(state)
        words += output
    return words[:count]
