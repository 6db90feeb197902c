"""GROUND: what a number is, and how a real number becomes one."""

from .blocks.block import BlockFormat
from .blocks.codes import BlockCodes, unpack_blocks
from .catalog import get_format, list_block_formats, list_formats
from .conversion import decode, encode, quantize
from .errors import InputError
from .format import FixedFormat, FloatFormat, Format, IntegerFormat
from .hardware.conversion import convert, list_conversions
from .p3109 import p3109
from .rounding import Overflow, Rounding, Stochastic
from .tables.codebook import CodebookFormat
from .tables.logarithmic import LogFormat
from .tables.posit import PositFormat

__all__ = [
    "BlockCodes",
    "BlockFormat",
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
    "convert",
    "decode",
    "encode",
    "get_format",
    "list_block_formats",
    "list_conversions",
    "list_formats",
    "p3109",
    "quantize",
    "unpack_blocks",
]
