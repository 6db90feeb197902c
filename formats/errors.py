"""How bad input is refused: one sentence with value, allowed set, place and remedy."""

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """A user's mistake, told in one sentence; the command line prints it and exits with 2."""


def hint(value: object, allowed: Iterable[str]) -> str:
    """`' (did you mean "fused"?)'` when an allowed name is close to `value`, else nothing."""
    near = get_close_matches(str(value), list(allowed), n=1)
    return f' (did you mean "{near[0]}"?)' if near else ""


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
