"""GROUND: what a number is, and how a real number becomes one."""

from .catalog import get_format, list_formats
from .codebook import CodebookFormat
from .conversion import decode, encode, quantize
from .errors import InputError
from .format import FloatFormat, Format, IntegerFormat
from .hardware import convert, list_conversions
from .rounding import Overflow, Rounding, Stochastic

__all__ = [
    "CodebookFormat",
    "FloatFormat",
    "Format",
    "InputError",
    "IntegerFormat",
    "Overflow",
    "Rounding",
    "Stochastic",
    "convert",
    "decode",
    "encode",
    "get_format",
    "list_conversions",
    "list_formats",
    "quantize",
]
