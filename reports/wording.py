"""Numbers as a reader wants them: percent, percentage points, bytes, decibels."""

from collections.abc import Sequence
from math import isfinite

MINUS, NARROW = "\N{MINUS SIGN}", "\N{NARROW NO-BREAK SPACE}"


def lower_is_better(metric: str) -> bool:
    """Whether a smaller value of `metric` is the better one: so for every `..._loss`."""
    return metric.endswith("loss")


def quality(metric: str, value: float | None) -> str:
    """A value of the metric: an accuracy in percent, anything else to four digits."""
    if value is None or not isfinite(value):
        return "–"
    return _percent(value, 1) if _is_share(metric) else _signless(f"{value:.4g}")


def gap(metric: str, value: float | None) -> str:
    """A difference of two values of the metric, always with its sign: `−1.2 pp`."""
    if value is None or not isfinite(value):
        return "–"
    if _is_share(metric):
        text, unit = f"{100 * value:+.1f}", f"{NARROW}pp"
    else:
        text, unit = f"{value:+.3g}", ""
    zero = not any(digit in text for digit in "123456789")
    return (text.lstrip("+-") if zero else text.replace("-", MINUS)) + unit


def size(metric: str, value: float) -> str:
    """A positive difference without a sign, such as a tolerance: `1.0 pp`."""
    return gap(metric, abs(value)).lstrip("+")


def share(value: float | None) -> str:
    """A share of a whole in percent; a share above 0 never reads as 0."""
    if value is None:
        return "–"
    if 0 < value < 0.0005:
        return f"<{NARROW}0.1{NARROW}%"
    return _percent(value, 1 if value < 0.0995 and value > 0 else 0)


def decibels(value: float | None) -> str:
    """A signal-to-noise ratio; None is a signal without any noise."""
    return "exact" if value is None else _signless(f"{value:.1f}")


def exponent_range(exponents: Sequence[tuple[int, int]]) -> str:
    """The least and the greatest of binary exponents with their counts: `2^−14 to 2^3`."""
    if not exponents:
        return "–"
    return _signless(f"2^{exponents[0][0]} to 2^{exponents[-1][0]}")


def count(value: int) -> str:
    """A whole number with thin spaces between thousands."""
    return f"{value:,}".replace(",", NARROW)


def size_in_bytes(value: int | None) -> str:
    """A memory size in the binary unit that leaves one to four digits before the point."""
    if value is None:
        return "–"
    amount, unit = float(value), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if amount < 1024:
            break
        amount, unit = amount / 1024, larger
    return f"{amount:.0f}{NARROW}B" if unit == "B" else f"{amount:.1f}{NARROW}{unit}"


def plural(number: int, noun: str) -> str:
    """`1 run`, `3 runs`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _is_share(metric: str) -> bool:
    return metric.endswith("accuracy")


def _percent(value: float, digits: int) -> str:
    return f"{100 * value:.{digits}f}{NARROW}%"


def _signless(text: str) -> str:
    return text.replace("-", MINUS)
