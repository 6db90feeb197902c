"""Widths and roundings by targeted vectors, once the tree is known.

All vectors are products that are powers of two, or 1.5 or 2.25 times one, relative to a base
2^e; everything that is not named is zero, and adding zero rounds nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from .construction import Revealed
from .masks import Bench, float_format, lowest
from .node import C, Node, leaves, nodes
from .target import Values

#: Bits below the base that are looked at.
SWEEP = 64
#: Fractions of the last place kept, and what each mode makes of them for positive and negative.
FRACTIONS = (0.25, 0.5, 0.75, 1.5)
MODES = {
    "nearest_even": ((0, 0, 1, 2), (0, 0, -1, -2)),
    "nearest_away": ((0, 1, 1, 2), (0, -1, -1, -2)),
    "toward_zero": ((0, 0, 0, 1), (0, 0, 0, -1)),
    "up": ((1, 1, 1, 2), (0, 0, 0, -1)),
    "down": ((0, 0, 0, 1), (-1, -1, -1, -2)),
    "to_odd": ((1, 1, 1, 1), (-1, -1, -1, -1)),
}
REPEATS = 64
RANDOM_DEPTH, RANDOM_REPEATS = 12, 1 << 15


@dataclass(frozen=True)
class Finding:
    """One property: its value, or None if it could not be decided, and how it was looked for."""

    name: str
    value: Any
    how: str


@dataclass(frozen=True)
class Site:
    """Where terms meet: leaves of one addition, the deepest with the most of them.

    Attributes:
        terms: product leaves that are children of one addition.
        later: a product that joins after two of `terms` have met; None if there is none.
        multi: whether the addition has three or more terms, and is not exact.
        exact: whether it is an exact one.
    """

    terms: tuple[int, ...]
    later: int | None
    multi: bool
    exact: bool


def find_site(revealed: Revealed) -> Site:
    """The addition with most leaves of its own, deepest first; C counts where products are few."""
    best: tuple[int, int, Node] | None = None
    for depth, node in enumerate(nodes(revealed.tree)):
        own = sum(isinstance(child, int) and child != C for child in node.children)
        if best is None or (own, depth) > best[:2]:
            best = (own, depth, node)
    if best is None:
        return Site((0,), None, False, False)
    _, _, node = best
    own_leaves = [child for child in node.children if isinstance(child, int)]
    terms = tuple(sorted(own_leaves, key=lambda leaf: leaf == C))
    if len(terms) < 2:
        other = next(child for child in node.children if not isinstance(child, int))
        terms = (*terms, *[leaf for leaf in leaves(other) if leaf != C][:1])
    inside = set(leaves(node))
    later = next((k for k in range(revealed.depth) if k not in inside), None)
    wide = len(node.children) > 2
    return Site(terms, later, wide and not node.exact, node.exact)


@dataclass(frozen=True)
class Probe:
    """Vectors at one site of one target."""

    bench: Bench
    site: Site

    @cached_property
    def floor(self) -> int:
        """Exponent of the smallest product that comes back when it is alone."""
        fmt_a, fmt_b = self.bench.formats()
        out = float_format(self.bench.target.output, "output")
        tiny = max(lowest(fmt_a) + lowest(fmt_b), lowest(out))
        row = self.bench.zeros(1)
        row[0, self.site.terms[0]] = 2.0**tiny
        return tiny if self.bench.run(row)[0] == 2.0**tiny else self.bench.reach()[1]

    @cached_property
    def base(self) -> int:
        """e: 0 where the products reach far below 1, else near the top of what they reach."""
        high = self.bench.reach()[0] - 3
        return min(high, 0) if self.floor < -SWEEP - 4 else high

    def run(self, rows: list[dict[int, float]]) -> Values:
        """D / 2^e of terms given as {leaf: value / 2^e}."""
        values = self.bench.zeros(len(rows))
        for n, row in enumerate(rows):
            for leaf, value in row.items():
                values[n, leaf] += np.ldexp(value, self.base)
        return np.asarray(np.ldexp(self.bench.run(values), -self.base))

    def depths(self, margin: int = 0) -> range:
        """Distances below the base that the products reach."""
        return range(1, min(SWEEP, self.base - self.floor - margin) + 1)

    def kept(self, fixed: dict[int, float], leaf: int) -> tuple[int, bool]:
        """The largest d with which 2^-d at `leaf` is still in the sum, and whether more were seen.

        (0, ...) if none is.
        """
        depths = self.depths()
        total = sum(fixed.values())
        out = self.run([fixed | {leaf: 2.0**-d} for d in depths])
        ends = [d for d, value in zip(depths, out, strict=True) if value - total == 2.0**-d]
        run = 0
        while run + 1 in ends:
            run += 1
        return run, run < len(depths)

    def rounded(self, fixed: dict[int, float], leaf: int, unit: float) -> Values:
        """What is added for each of FRACTIONS, both signs, in units: (repeats, 2, 4)."""
        rows = [
            {k: s * v for k, v in fixed.items()} | {leaf: s * x * unit}
            for s in (1.0, -1.0)
            for x in FRACTIONS
        ]
        out = self.run(rows * REPEATS).reshape(REPEATS, 2, len(FRACTIONS))
        total = sum(fixed.values()) * np.array([[1.0], [-1.0]])
        return np.asarray((out - total) / unit)

    @property
    def halves(self) -> bool:
        """Whether both operands have the significand 1.5."""
        return min(fmt.fraction_bits for fmt in self.bench.formats()) > 0


def name_mode(found: Values) -> str:
    """The rounding mode that gives these units; "unknown" if none does."""
    if (found != found[0]).any():
        return "stochastic"
    got = tuple(tuple(int(v) if v == int(v) else None for v in half) for half in found[0])
    return next((mode for mode, wanted in MODES.items() if got == wanted), "unknown")


def measure(revealed: Revealed, bench: Bench) -> list[Finding]:
    """All findings about widths, roundings and the ends of the range."""
    probe = Probe(bench, find_site(revealed))
    findings = list(_sums(probe))
    return findings + list(_ends(probe, findings))


def _sums(probe: Probe) -> Iterator[Finding]:
    """Alignment, accumulator and rounding."""
    site = probe.site
    if len(site.terms) < 2:
        yield Finding("accumulator_bits", None, "one product and no C: nothing is added")
        return
    fixed: dict[int, float] = {site.terms[0]: 1.0}
    limit = None
    if site.multi and len(site.terms) > 2:
        yield from _alignment(probe)
        limit, _ = probe.kept({site.terms[0]: 1.0, site.terms[1]: -1.0}, site.terms[2])
    if len(site.terms) > 2 and probe.halves:
        fixed = {site.terms[0]: 2.25, site.terms[1]: 2.25}
    leaf = site.terms[len(fixed)]
    kept, ended = probe.kept(fixed, leaf)
    raised = 2 * (len(fixed) - 1)
    how = f"the smallest 2^-d that {' + '.join(f'{v:g}' for v in fixed.values())} + 2^-d keeps"
    if limit is not None and kept >= limit:
        yield Finding("accumulator_bits", None, f"{how}: all that alignment leaves (d = {kept})")
        yield Finding("rounding", None, "no bits below the accumulator's are left by alignment")
        return
    if not ended:
        yield Finding("accumulator_bits", None, f"{how}: at least {kept + raised}, all in reach")
        yield Finding("rounding", None, "every term that the formats reach is kept")
        return
    yield Finding("accumulator_bits", kept + raised, f"{how}: d = {kept}")
    yield from _rounding(probe, fixed, leaf, kept)
    if site.later is not None:
        inner, seen = probe.kept({site.terms[0]: 1.0, site.later: -1.0}, site.terms[1])
        if seen and not site.multi:
            yield Finding("inner_bits", inner, "the smallest 2^-d that (1 + 2^-d) - 1 keeps")


def _alignment(probe: Probe) -> Iterator[Finding]:
    """Fraction bits F of a multi-term addition, and how a term is cut to them."""
    first, second, third = probe.site.terms[:3]
    fixed = {first: 1.0, second: -1.0}
    kept, ended = probe.kept(fixed, third)
    how = "the smallest 2^-d that 1 - 1 + 2^-d keeps in one addition"
    if not ended:
        yield Finding("fraction_bits", None, f"{how}: at least {kept}, all that is in reach")
        return
    yield Finding("fraction_bits", kept, f"{how}: d = {kept}")
    how = "1 - 1 + x for x = +-(1/4, 1/2, 3/4, 3/2) of that bit"
    if not probe.halves or kept + 2 not in probe.depths():
        yield Finding("term_rounding", None, f"{how}: the operands do not reach it")
        return
    yield Finding("term_rounding", name_mode(probe.rounded(fixed, third, 2.0**-kept)), how)


def _rounding(probe: Probe, fixed: dict[int, float], leaf: int, kept: int) -> Iterator[Finding]:
    how = f"{sum(fixed.values()):g} + x for x = +-(1/4, 1/2, 3/4, 3/2) of its last bit"
    if not probe.halves or kept + 2 not in probe.depths():
        yield Finding("rounding", None, f"{how}: the operands do not reach it")
        return
    mode = name_mode(probe.rounded(fixed, leaf, 2.0**-kept))
    yield Finding("rounding", mode, how + f", {REPEATS} times each")
    if mode != "stochastic":
        return
    seen = 0
    total = sum(fixed.values())
    for m in range(1, RANDOM_DEPTH + 1):
        if kept + m not in probe.depths():
            break
        rows = [fixed | {leaf: 2.0 ** -(kept + m)}] * RANDOM_REPEATS
        if (probe.run(rows) > total).any():
            seen = m
    yield Finding(
        "random_bits", seen if seen < RANDOM_DEPTH else None,
        f"the smallest 2^-m of the last bit that ever rounds up in {RANDOM_REPEATS} draws: m = "
        f"{seen}" + (", the smallest that was tried" if seen == RANDOM_DEPTH else ""),
    )  # fmt: skip


def _ends(probe: Probe, found: list[Finding]) -> Iterator[Finding]:
    """Products rounded or fused, subnormals, overflow."""
    values = {finding.name: finding.value for finding in found}
    yield _product(probe, values.get("inner_bits") or values.get("accumulator_bits"))
    fmt_a, fmt_b = probe.bench.formats()
    out = float_format(probe.bench.target.output, "output")
    row = np.zeros((1, probe.bench.depth))
    at = max(probe.site.terms[0], 0)

    def alone(x: float, y: float) -> float:
        a, b = row.copy(), row.copy()
        a[0, at], b[0, at] = x, y
        return float(probe.bench.target.dot(a, b)[0])

    x, y = fmt_a.min_subnormal, 2.0 ** min(fmt_b.max_exponent, out.max_exponent - 1)
    how = f"{x:g} (subnormal) by {y:g}, a normal product, alone"
    if fmt_a.subnormals and fmt_a.fraction_bits and x * y >= out.min_normal:
        yield Finding("inputs_flushed", alone(x, y) == 0, how)
    else:
        yield Finding("inputs_flushed", None, "no normal product of a subnormal operand")
    exponent = out.min_exponent - 1
    ea = max(min(exponent // 2, fmt_a.max_exponent), fmt_a.min_exponent)
    if fmt_b.min_exponent <= exponent - ea <= fmt_b.max_exponent and out.subnormals:
        flushed = alone(2.0**ea, 2.0 ** (exponent - ea)) == 0
        yield Finding("outputs_flushed", flushed, f"a product of 2^{exponent}, subnormal, alone")
    else:
        yield Finding("outputs_flushed", None, "no product of normal operands is subnormal")
    yield _overflow(probe, out.largest, out.max_exponent)


def _overflow(probe: Probe, largest: float, top: int) -> Finding:
    """What a sum of two products of the largest exponent becomes."""
    fmt_a, fmt_b = probe.bench.formats()
    if fmt_a.max_exponent + fmt_b.max_exponent < top or probe.bench.depth < 2:
        return Finding("overflow", None, "no two products exceed the output's largest value")
    values = probe.bench.zeros(1)
    values[0, :2] = 2.0**top
    d = float(probe.bench.run(values)[0])
    kind = "infinity" if np.isinf(d) else "saturate" if d == largest else "nan" if d != d else None
    return Finding("overflow", kind, f"2^{top} + 2^{top} gave {d:g}")


def _product(probe: Probe, bits: int | None) -> Finding:
    """Whether (1 + 2^-s)^2 - (1 + 2^(1-s)) leaves 2^-2s, in either order."""
    fmt_a, fmt_b = probe.bench.formats()
    s = min(fmt_a.fraction_bits, fmt_b.fraction_bits)
    places = probe.bench.places
    if bits is None or len(places) < 2 or 2 * s < bits + 2:
        return Finding("product_fused", None, "products of these formats need no rounding")
    s = bits // 2 + 1 + bits % 2
    pairs = [(0, C)] if C in places else []
    pairs += [(1, 0), (0, 1)] if probe.bench.depth > 1 else []
    a, b = np.zeros((2, len(pairs), probe.bench.depth))
    c = np.zeros(len(pairs))
    for n, (square, other) in enumerate(pairs):
        if other == C:
            c[n] = -(1 + 2.0 ** (1 - s))
        else:
            a[n, other], b[n, other] = -(1 + 2.0 ** (1 - s)), 1.0
        a[n, square] = b[n, square] = 1 + 2.0**-s
    left = probe.bench.target.dot(a, b, c if probe.bench.target.takes_c else None)
    fused = bool((left == 2.0 ** (-2 * s)).any())
    return Finding("product_fused", fused, f"(1 + 2^-{s})^2 - (1 + 2^-{s - 1}), in every order")
