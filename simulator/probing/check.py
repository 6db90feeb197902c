"""Whether a unit reproduces a target: corner cases and random operands, output by output."""

from dataclasses import dataclass

import numpy as np

from ...formats import InputError
from ..dot_unit import DotUnit
from ..verification.cases import make_cases, values_of
from .target import Target, Values


@dataclass(frozen=True)
class Questions:
    """Dot products that the target has answered.

    Attributes:
        a, b: (n, K).
        c: (n,), zero where the target takes none.
        answers: the target's outputs.
        kind: which operands these are.
    """

    a: Values
    b: Values
    c: Values
    answers: Values
    kind: str

    @property
    def depth(self) -> int:
        """K."""
        return int(self.a.shape[1])


@dataclass(frozen=True)
class Agreement:
    """Outputs compared, those that differ (NaN equals NaN), and zeros of the other sign.

    `first` tells the first difference: its row, the target's output and the unit's.
    """

    compared: int = 0
    differ: int = 0
    zero_signs: int = 0
    first: tuple[int, float, float] | None = None


def ask(target: Target, unit: DotUnit, count: int, depth: int, seed: int) -> Questions:
    """Corners of everything (infinities and NaN too), or of finite numbers, or random ones.

    The widest of the three that the target takes without an error.

    Raises:
        InputError: it takes none of them.
    """
    cases = make_cases(unit, count, seed, depth)
    given, more = values_of(unit, cases)
    a, b, c = (np.asarray(v, np.float64) for v in (*given, *more.values()))
    if not target.takes_c:
        c = np.zeros_like(c)
    finite = np.isfinite(a).all(1) & np.isfinite(b).all(1) & np.isfinite(c)
    mild = finite & (np.abs(a).max(1) < 2**8) & (np.abs(b).max(1) < 2**8) & (np.abs(c) < 2**8)
    kinds = (("corners and random numbers", np.ones(len(a), bool)),
             ("finite corners and random numbers", finite),
             ("numbers below 2^8", mild))  # fmt: skip
    for kind, chosen in kinds:
        x, y, z = a[chosen], b[chosen], c[chosen]
        try:
            return Questions(x, y, z, target.dot(x, y, z), kind)
        except InputError:
            if kind == kinds[-1][0]:
                raise
    raise InputError(f"{target.name}: takes none of the operands")


def compare_unit(unit: DotUnit, asked: Questions) -> Agreement:
    """The unit on the same operands."""
    with np.errstate(all="ignore"):
        got = np.asarray(unit.dot(asked.a, asked.b, asked.c, check=False), np.float64)
    wanted = asked.answers
    same = (got == wanted) | (np.isnan(got) & np.isnan(wanted))
    signs = same & (got == 0) & (np.signbit(got) != np.signbit(wanted))
    rows = np.flatnonzero(~same)
    first = (int(rows[0]), float(wanted[rows[0]]), float(got[rows[0]])) if rows.size else None
    return Agreement(len(got), int(rows.size), int(signs.sum()), first)
