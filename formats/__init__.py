"""GROUND: what a number is, and how a real number becomes one."""

from .catalog import get_format, list_formats
from .codebook import CodebookFormat
from .conversion import decode, encode, quantize
from .errors import InputError
from .format import FixedFormat, FloatFormat, Format, IntegerFormat
from .logarithmic import LogFormat
from .p3109 import p3109
from .posit import PositFormat
from .rounding import Overflow, Rounding, Stochastic

__all__ = [
    "CodebookFormat",
    "FixedFormat",
    "FloatFormat",
    "Format",
    "InputError",
    "IntegerFormat",
    "LogFormat",
    "Overflow",
    "PositFormat",
    "Rounding",
    "Stochastic",
    "decode",
    "encode",
    "get_format",
    "list_formats",
    "p3109",
    "quantize",
]
