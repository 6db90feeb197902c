"""One step of LMD and the next sample in one pass, a run of 1024 weights at a time.

Twins of `components.advance` and `components.drawn`, operation by operation, with the exp and log
of `elementary`; tests/test_lmd_fused.py holds the two bit-equal. A run stays in cache from its old
state to its new sample, so that every vector is read and written once a step.
"""

import numpy as np

from ...formats.jit import jit, parallel_jit, prange, stay_apart
from .elementary import exp, log
from .noise import GRAIN, NORMAL, RUN, draw_run

#: What u± is made of: the sample times the gradient, the gradient alone, or given as `sample`.
FROM_SAMPLE, SHARED, GIVEN = 0, 1, 2
#: How medians lie in a vector of floats.
MEDIAN, LOG = 0, 1
LOGNORMAL, CONSTANT, GAUSSIAN, EXPONENTIAL = 0, 1, 2, 3

_BIG = np.float32(np.finfo(np.float32).max / 4)
_REACH = np.float32(87.0)
_ZERO, _ONE = np.float32(0), np.float32(1)


@jit
def _momentum(sign, sample, g, v, d, temperature, betas, signs):  # type: ignore[no-untyped-def]
    """v_temp, or its sign, of u = sign·sample·g in d; v in place."""
    a1, b1, a2, b2 = betas
    for i in range(d.size):
        u = min(max(sample[i] * g[i] * sign - temperature, -_BIG), _BIG)
        old = v[i]
        x = old * a1 + u * b1
        v[i] = old * a2 + u * b2
        d[i] = np.float32(x > _ZERO) - np.float32(x < _ZERO) if signs else x


@jit
def _opposite(d, out):  # type: ignore[no-untyped-def]
    for i in range(d.size):
        out[i] = -d[i]


@jit
def _exponentials(stored, room):  # type: ignore[no-untyped-def]
    for i in range(room.size):
        room[i] = exp(stored[i])


@jit
def _medians(form, m, first, n, room):  # type: ignore[no-untyped-def]
    """m± of a run into room, where they are not what is stored."""
    if form == LOG:
        for side in range(2):
            _exponentials(m[side, first : first + n], room[side, :n])


@jit
def _regularize(kind, decay, scale, m, d):  # type: ignore[no-untyped-def]
    """d += λ·R(m), for every R but that of the log-normal prior."""
    if kind == CONSTANT:
        for i in range(d.size):
            d[i] += _ONE * decay
    elif kind == GAUSSIAN:
        for i in range(d.size):
            d[i] += m[i] * m[i] * scale * decay
    else:
        for i in range(d.size):
            d[i] += m[i] * scale * decay


@jit
def _pull(form, decay, origin, stored, prior, d):  # type: ignore[no-untyped-def]
    """d += λ·log(m/m₀); prior: m₀ as stored, or empty where its logarithm is `origin`."""
    if form == LOG and prior.size:
        for i in range(d.size):
            d[i] += (stored[i] - prior[i]) * decay
    elif form == LOG:
        for i in range(d.size):
            d[i] += (stored[i] - origin) * decay
    elif prior.size:
        for i in range(d.size):
            d[i] += (log(stored[i]) - log(prior[i])) * decay
    else:
        for i in range(d.size):
            d[i] += (log(stored[i]) - origin) * decay


@jit
def _move(form, push, least, largest, stored, d):  # type: ignore[no-untyped-def]
    """m ← m·exp(−η·d), or θ ← θ − η·d."""
    if form == MEDIAN:
        for i in range(d.size):
            factor = exp(min(max(d[i] * push, -_REACH), _REACH))
            stored[i] = min(max(stored[i] * factor, least), largest)
    else:
        for i in range(d.size):
            stored[i] = min(max(stored[i] + d[i] * push, least), largest)


@jit
def _spread(law, sigma, shortest, m, w):  # type: ignore[no-untyped-def]
    """w± = ε±·m± in the place of the variates in w; each loop writes what it alone reads."""
    if sigma == _ZERO:
        for i in range(w.size):
            w[i] = m[i]
    elif law == NORMAL:
        for i in range(w.size):
            w[i] = exp(w[i] * sigma) * m[i]
    else:
        for i in range(w.size):
            w[i] = max(w[i], shortest) * sigma * m[i]


@jit
def _subtract(plus, minus, w):  # type: ignore[no-untyped-def]
    for i in range(w.size):
        w[i] = plus[i] - minus[i]


@jit
def _renew(law, sigma, shortest, seed, stream, run, words, m, at, out, to, count):  # type: ignore[no-untyped-def]
    """The sample of a run, out[:, to : to + count], from its medians m[:, at : at + count]."""
    if sigma != _ZERO:
        plus, minus = out[0, to : to + count], out[1, to : to + count]
        draw_run(law, words, seed, stream, run, plus, minus)
    for side in range(2):
        _spread(law, sigma, shortest, m[side, at : at + count], out[side, to : to + count])


@jit
def _directions(switches, scalars, g, source, at, v, b, e, d, ones):  # type: ignore[no-untyped-def]
    """v_temp or its sign of weights b .. e - 1, both components, in d; momenta in place.

    source: holds from `at` on what u± is made of; see FROM_SAMPLE, SHARED, GIVEN. ones: (RUN,).
    """
    kind, signs, n = switches[0], switches[2], e - b
    betas, temperature = scalars[:4], scalars[4]
    if kind == SHARED:
        row = d[0, :n]
        _momentum(_ONE, ones[:n], g[b:e], v[0, b:e], row, temperature, betas, signs)
        _opposite(row, d[1, :n])
    else:
        factor = g[b:e] if kind == FROM_SAMPLE else ones[:n]
        for side in range(2):
            sign = -_ONE if side and kind == FROM_SAMPLE else _ONE
            row = source[side, at : at + n]
            _momentum(sign, row, factor, v[side, b:e], d[side, :n], temperature, betas, signs)


@jit
def _advance(switches, scalars, m, prior, b, e, d, room):  # type: ignore[no-untyped-def]
    """Move the medians b .. e - 1, kept as floats, along d."""
    form, kind, n = switches[1], switches[3], e - b
    decay, scale, origin, push, least, largest = scalars[5:11]
    for side in range(2):
        row, to = m[side, b:e], d[side, :n]
        if decay != _ZERO and kind == LOGNORMAL:
            ours = prior[side, b:e] if prior.shape[1] else prior[side]
            _pull(form, decay, origin, row, ours, to)
        elif decay != _ZERO:
            values = row
            if form == LOG:
                _exponentials(row, room[:n])
                values = room[:n]
            _regularize(kind, decay, scale, values, to)
        if push != _ZERO:
            _move(form, push, least, largest, row, to)


@jit
def _floats(  # type: ignore[no-untyped-def]
    switches, scalars, places, ranges, g, sample, u, m, v, prior, w, a, stop, rooms, words
):
    """The runs from weight a to `stop`; rooms (7, RUN), words (2, RUN + 8): of one thread."""
    stay_apart()
    source, form, law = switches[0], switches[1], switches[4]
    before, after, shortest = scalars[11:14]
    seed, old, new, start = places
    kept = sample.shape[1] > 0
    again = source == FROM_SAMPLE and not kept and ranges.shape[0] > 0
    d, s, room, ones = rooms[:2], rooms[2:4], rooms[4:6], rooms[6]
    ones[:] = _ONE
    for first in range(a, stop, RUN):
        z = min(first + RUN, stop)
        n, run = z - first, start + np.uint64(first // RUN)
        ms, at = (m, first) if form == MEDIAN else (room, 0)
        if again:
            _medians(form, m, first, n, room)
            _renew(law, before, shortest, seed, old, run, words, ms, at, s, 0, n)
        given, shift = (s, first) if again else (u, 0) if source == GIVEN else (sample, 0)
        for r in range(ranges.shape[0]):
            b, e = max(first, ranges[r, 0]), min(z, ranges[r, 1])
            if b < e:
                _directions(switches, scalars, g, given, b - shift, v, b, e, d, ones)
                _advance(switches, scalars, m, prior, b, e, d, s[0])
        _medians(form, m, first, n, room)
        out, to = (sample, first) if kept else (s, 0)
        _renew(law, after, shortest, seed, new, run, words, ms, at, out, to, n)
        _subtract(out[0, to : to + n], out[1, to : to + n], w[first:z])


@jit
def step_alone(switches, scalars, places, ranges, g, sample, u, m, v, prior, w):  # type: ignore[no-untyped-def]
    """Medians and momenta of the weights in `ranges` one step on; a new sample of all.

    Args:
        switches: source, form, whether signs, regularizer, law.
        scalars: β₁, 1 − β₁, β₂, 1 − β₂, τ, λ, E of R, log m₀, −η, the two limits of what is
            stored, σ of the sample and of the next, the shortest length; float32.
        places: seed, stream of the sample and of the next, first run; uint64.
        ranges: (R, 2), first and last + 1.
        g: (N,). sample, u, m, prior: (2, N); v: (2, N), or (1, N) where shared; of no weights
            where there is none: no kept sample, no given u±, no prior.
        w: (N,), becomes w⁺ − w⁻.
    """
    words, rooms = np.empty((2, RUN + 8), np.uint32), np.empty((7, RUN), np.float32)
    _floats(
        switches, scalars, places, ranges, g, sample, u, m, v, prior, w, 0, w.size, rooms, words
    )


@parallel_jit
def step(switches, scalars, places, ranges, g, sample, u, m, v, prior, w):  # type: ignore[no-untyped-def]
    """As `step_alone`, on the threads of `set_threads`: for more than GRAIN weights."""
    for task in prange((w.size + GRAIN - 1) // GRAIN):
        words, rooms = np.empty((2, RUN + 8), np.uint32), np.empty((7, RUN), np.float32)
        a, stop = task * GRAIN, min((task + 1) * GRAIN, w.size)
        _floats(
            switches, scalars, places, ranges, g, sample, u, m, v, prior, w, a, stop, rooms, words
        )
