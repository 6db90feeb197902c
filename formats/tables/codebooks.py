"""More codebooks of published quantisers, all scaled into [-1, 1], holding 0 and reaching 1."""

from fractions import Fraction

from .codebook import CODEBOOKS, CodebookFormat

#: The sixteen float32 numbers that bitsandbytes stores: quantiles of a normal distribution,
#: negative and positive ones apart, scaled to reach -1 and 1.
_NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
    -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
    0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip


def dynamic_map(bits: int, signed: bool) -> tuple[Fraction, ...]:
    """The dynamic map of 8-bit optimizers, in exact decimals.

    Decade i = 0 .. bits - 2 is 10^(i - (bits - 2)) times the midpoints of 2^i equal parts of
    [1/10, 1], mirrored if signed, of 2^(i + 1) parts if not; then 0 and 1 are added. (As an
    indicator bit moves right, exponents fall and the fraction loses bits.) bitsandbytes builds
    the same list in float32, where the last bit or two depend on the torch that does it.

    Source: Dettmers et al., 8-bit Optimizers via Block-wise Quantization, arXiv 2110.02861.
    """
    values = {Fraction(0), Fraction(1)}
    for i in range(bits - 1):
        parts = 1 << (i if signed else i + 1)
        for j in range(parts):
            value = (1 + 9 * Fraction(2 * j + 1, 2 * parts)) / 10 ** (bits - 1 - i)
            values |= {value, -value} if signed else {value}
    return tuple(sorted(values))


_QLORA = "NF4 of Dettmers et al., QLoRA, NeurIPS 2023, arXiv 2305.14314, as in bitsandbytes"
_DYNAMIC = "dynamic map of Dettmers et al., arXiv 2110.02861, as in bitsandbytes"

NF4 = CodebookFormat("nf4", 4, tuple(Fraction(v) for v in _NF4), _QLORA)
DYNAMIC_8BIT = CodebookFormat("dynamic_8bit", 8, dynamic_map(8, True), _DYNAMIC)
DYNAMIC_8BIT_UNSIGNED = CodebookFormat(
    "dynamic_8bit_unsigned", 8, dynamic_map(8, False), _DYNAMIC
)  # fmt: skip

ALL_CODEBOOKS = (*CODEBOOKS, NF4, DYNAMIC_8BIT, DYNAMIC_8BIT_UNSIGNED)
