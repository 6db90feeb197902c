"""The formats of the IEEE P3109 draft: widths 3 to 15, every precision, by one rule."""

from .errors import InputError
from .format import FloatFormat

_DRAFT = "IEEE SA P3109 Working Group, Interim Report on Binary Floating-point Formats for ML"


def p3109(width: int, precision: int, signed: bool = True, extended: bool = True) -> FloatFormat:
    """The P3109 format Binary{width}p{precision}{s|u}{e|f}.

    A signed one has width - precision exponent bits with bias 2^(width - precision - 1), an
    unsigned one a bit more of both, 2^(width - precision); fraction bits are precision - 1. The
    only zero is code 0. Signed formats have their NaN in place of -0, unsigned ones at the top
    code; extended ones have infinity at the top of the remaining magnitudes, finite ones have
    none. With precision 1 a tie goes to the even code, as everywhere else.

    Raises:
        InputError: width is not 3 to 15, precision not 1 to width - 1 (signed) or width
            (unsigned), or the values leave float64 (11 exponent bits or more).
    """
    most = width - 1 if signed else width
    if not (3 <= width <= 15 and 1 <= precision <= most):
        raise InputError(
            f"P3109 format of {width} bits with precision {precision} is not one of 3 to 15 bits "
            f"with precision 1 to width{' - 1' if signed else ''}"
        )
    exponent = width - precision + (not signed)
    name = f"binary{width}p{precision}{'s' if signed else 'u'}{'e' if extended else 'f'}"
    if exponent > 10:
        raise InputError(
            f"format {name}: {exponent} exponent bits reach beyond float64: raise the precision "
            "or lower the width, to 10 exponent bits or fewer"
        )
    return FloatFormat(
        name,
        exponent,
        precision - 1,
        2 ** (exponent - 1),
        signed=signed,
        infinity=extended,
        nan="negative_zero" if signed else "all_ones",
        source=_DRAFT,
    )
