"""Random numbers of the optimizers by the thousand; twins of `noise.variates_reference`."""

import math

import numpy as np

from ...formats.jit import (
    add_bits,
    and_bits,
    bits_float,
    convert,
    float_bits,
    fma,
    jit,
    parallel_jit,
    prange,
    scalar_jit,
    shift_left,
    shift_right,
    stay_apart,
)
from ...formats.random import fill_words, philox
from ..elementary import COS, SIN
from .elementary import log

#: Weights that share HALF blocks of Philox: place p of a run takes two words of block p mod HALF.
RUN = 1024
HALF = RUN // 2
#: Weights that one thread computes in turn; fewer are not worth waking another.
GRAIN = 8 * RUN
NORMAL, LENGTH = 0, 1

_LOW, _32 = np.uint64(0xFFFFFFFF), np.uint64(32)
_ZERO, _INT = np.float32(0), np.int32(0)
_HALF, _PER_31 = np.float32(0.5), np.float32(2.0**-31)
_SIGN, _1, _2 = np.uint32(0x80000000), np.uint32(1), np.uint32(2)
_S0, _S1, _S2, _S3 = SIN
_C0, _C1, _C2, _C3 = COS


@jit
def fill_run(first, second, seed, stream, run):  # type: ignore[no-untyped-def]
    """The two words of every weight of a run, in arrays of RUN uint32.

    The lower half of a run takes the first two words of a block, the upper half the last two, so
    that nothing is interleaved.
    """
    s0, s1 = np.uint32(stream & _LOW), np.uint32(stream >> _32)
    k0, k1 = np.uint32(seed & _LOW), np.uint32(seed >> _32)
    low_first, low_second = first[:HALF], second[:HALF]
    high_first, high_second = first[HALF:RUN], second[HALF:RUN]
    for n in range(HALF):
        block = run * np.uint64(HALF) + np.uint64(n)
        w0, w1, w2, w3 = philox(np.uint32(block & _LOW), np.uint32(block >> _32), s0, s1, k0, k1)
        low_first[n], low_second[n] = w0, w1
        high_first[n], high_second[n] = w2, w3


@scalar_jit
def _chance(word):  # type: ignore[no-untyped-def]
    """(k + 1/2)/2³¹ of the top 31 bits k: in (0, 1], its small values exact."""
    return (convert(convert(shift_right(word, _1), _INT), _ZERO) + _HALF) * _PER_31


@jit
def _normals(first, second, plus, minus):  # type: ignore[no-untyped-def]
    for i in range(plus.size):
        angle = second[i]
        radius = math.sqrt(-log(_chance(first[i])))
        y = convert(convert(shift_left(angle, _2), _INT), _ZERO) * _PER_31
        z = y * y
        s = fma(fma(fma(_S3, z, _S2), z, _S1), z, _S0) * y
        c = fma(fma(fma(_C3, z, _C2), z, _C1), z, _C0)
        left = convert(and_bits(angle, _SIGN), _INT)
        down = convert(and_bits(shift_left(angle, _1), _SIGN), _INT)
        plus[i] = bits_float(add_bits(float_bits(radius * (c - s)), left))
        minus[i] = bits_float(add_bits(float_bits(radius * (c + s)), down))


@jit
def _lengths(words, out):  # type: ignore[no-untyped-def]
    for i in range(out.size):
        out[i] = math.sqrt(np.float32(-2) * log(_chance(words[i])))


@jit
def draw_run(law, words, seed, stream, run, plus, minus):  # type: ignore[no-untyped-def]
    """The variates of the first `plus.size` weights of a run; words (2, RUN): room."""
    stay_apart()
    fill_run(words[0], words[1], seed, stream, run)
    if law == NORMAL:
        _normals(words[0], words[1], plus, minus)
    else:
        _lengths(words[0], plus)
        _lengths(words[1], minus)


@jit
def fill_alone(out, law, seed, stream, first):  # type: ignore[no-untyped-def]
    """Variates of both components, out (2, N), of the weights from `first`, a multiple of RUN."""
    n = out.shape[1]
    words = np.empty((2, RUN), np.uint32)
    for a in range(0, n, RUN):
        b, run = min(a + RUN, n), np.uint64((first + a) // RUN)
        draw_run(law, words, seed, stream, run, out[0, a:b], out[1, a:b])


@parallel_jit
def fill_variates(out, law, seed, stream, first):  # type: ignore[no-untyped-def]
    """As `fill_alone`, on the threads of `set_threads`: for more than GRAIN weights."""
    n = out.shape[1]
    for task in prange((n + GRAIN - 1) // GRAIN):
        a, b = task * GRAIN, min((task + 1) * GRAIN, n)
        words = np.empty((2, RUN), np.uint32)
        for c in range(a, b, RUN):
            e, run = min(c + RUN, b), np.uint64((first + c) // RUN)
            draw_run(law, words, seed, stream, run, out[0, c:e], out[1, c:e])


@jit
def fill_uniforms(out, words, seed, stream, first):  # type: ignore[no-untyped-def]
    """k/2²⁴, k the top 24 bits of a word: uniform in [0, 1); words: room for `out.size` + 8."""
    drawn = fill_words(words, seed, stream, first, out.size)
    for i in range(out.size):
        whole = convert(convert(shift_right(drawn[i], np.uint32(8)), _INT), _ZERO)
        out[i] = whole * np.float32(2.0**-24)
