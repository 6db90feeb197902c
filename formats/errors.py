"""How bad input is refused: one sentence with value, allowed set, place and remedy."""

from collections.abc import Iterable
from difflib import get_close_matches
from operator import index


class InputError(ValueError):
    """A user's mistake, told in one sentence; the command line prints it and exits with 2."""


def hint(value: object, allowed: Iterable[str]) -> str:
    """`' (did you mean "fused"?)'` when an allowed name is close to `value`, else nothing.

    Of several close ones, the closest that begins alike: first letters are seldom mistyped.
    """
    near = get_close_matches(str(value), list(allowed), n=3)
    alike = [name for name in near if name[:1] == str(value)[:1]]
    return f' (did you mean "{[*alike, *near][0]}"?)' if near else ""


def choice(value: str, allowed: Iterable[str], what: str, where: str = "") -> str:
    """Return `value` if it is allowed, else refuse it by name.

    Raises:
        InputError: `<where>: <what> = "fuzed" is not one of chain, fused (did you mean "fused"?)`.
    """
    names = list(allowed)
    if value in names:
        return value
    place = f"{where}: " if where else ""
    listed = ", ".join(names)
    raise InputError(f'{place}{what} = "{value}" is not one of {listed}{hint(value, names)}')


def whole_number(value: object, what: str) -> int:
    """`value` as an int: Python's, numpy's or torch's integers.

    Raises:
        InputError: anything else, 1.0 included.
    """
    try:
        return int(index(value))  # type: ignore[arg-type]
    except TypeError:
        raise InputError(f"{what} = {value!r} is not a whole number; pass an int") from None
