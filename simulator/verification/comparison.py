"""Expected against computed codes: how many differ, and the first that does."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...formats.format import ArithmeticFormat
from .codes import Codes, is_nan, is_zero


@dataclass(frozen=True)
class Policy:
    """What counts as a difference.

    Attributes:
        strict_nan: whether NaN codes must be equal; otherwise any NaN equals any NaN.
        signed_zero: whether +0 and -0 differ; otherwise they are counted beside.
    """

    strict_nan: bool = False
    signed_zero: bool = True


@dataclass(frozen=True)
class Comparison:
    """Two arrays of codes, compared.

    Attributes:
        compared, differ: outputs in all, and those that differ under the policy.
        zero_signs: outputs that are zero on both sides with different signs, counted whether
            or not they are differences.
        first: flat index of the first difference, or None.
    """

    compared: int
    differ: int
    zero_signs: int
    first: int | None

    def __add__(self, other: "Comparison") -> "Comparison":
        """Both together, `other` following."""
        later = None if other.first is None else self.compared + other.first
        return Comparison(
            self.compared + other.compared,
            self.differ + other.differ,
            self.zero_signs + other.zero_signs,
            later if self.first is None else self.first,
        )


NOTHING = Comparison(0, 0, 0, None)


def compare(
    expected: Codes, got: Codes, fmt: ArithmeticFormat, policy: Policy | None = None
) -> Comparison:
    """Codes of `fmt` of equal shape, element by element."""
    policy = policy or Policy()
    x, y = expected.reshape(-1), got.reshape(-1)
    unequal = x != y
    signs = unequal & is_zero(x, fmt) & is_zero(y, fmt)
    different = unequal.copy()
    if not policy.strict_nan:
        different &= ~(is_nan(x, fmt) & is_nan(y, fmt))
    if not policy.signed_zero:
        different &= ~signs
    count = int(different.sum())
    first: Any = int(np.argmax(different)) if count else None
    return Comparison(x.size, count, int(signs.sum()), first)
