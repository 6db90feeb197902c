"""GROUND: what a number is, and how a real number becomes one."""

from .block import BlockFormat
from .block_codes import BlockCodes, unpack_blocks
from .block_conversion import decode_blocks, encode_blocks, quantize_blocks
from .catalog import get_format, list_block_formats, list_formats
from .codebook import CodebookFormat
from .conversion import decode, encode, quantize
from .errors import InputError
from .format import FloatFormat, Format, IntegerFormat
from .rounding import Overflow, Rounding, Stochastic

__all__ = [
    "BlockCodes",
    "BlockFormat",
    "CodebookFormat",
    "FloatFormat",
    "Format",
    "InputError",
    "IntegerFormat",
    "Overflow",
    "Rounding",
    "Stochastic",
    "decode",
    "decode_blocks",
    "encode",
    "encode_blocks",
    "get_format",
    "list_block_formats",
    "list_formats",
    "quantize",
    "quantize_blocks",
    "unpack_blocks",
]
