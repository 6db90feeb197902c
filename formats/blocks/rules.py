"""Scale rules by their published names: how a block's scale follows from its largest magnitude.

fl(.) is rounding to the dtype of the input (float32 or float64), nearest-even; S(.) is rounding
into the scale format by the row's `scale_rounding`, beyond its largest value to that value.
amax is the largest magnitude of the block, `largest` that of the element format, emax =
floor(log2 largest). Exponents E are clamped into the scale format: -127 .. 127 for e8m0.

Left open by OCP MX v1.0 and chosen here, as torchao does: amax = 0 takes the least scale; a NaN
anywhere in a block makes its scale NaN, and so every value of it; an infinity counts as the power
of two above the dtype's range (2^128 for float32), so that the scale stays finite and the element
follows the overflow policy.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import choice
from .scales import (
    ABSMAX,
    CEIL,
    EVEN,
    FLOOR,
    MINMAX,
    RATIO,
    RECIPROCAL,
    TWO_LEVEL,
    TWO_LEVEL_DIVIDED,
)

_MX = "OCP Microscaling Formats (MX) v1.0, section 6.3"
_TORCHAO = "torchao, prototype/mx_formats"


@dataclass(frozen=True)
class ScaleRule:
    """A rule, its equation and where it is published.

    Attributes:
        code: the rule as the kernels know it.
        equation: the scale s, and the number y that is rounded into the element format; the
            restored value is fl(round(y) s).
        power_of_two: s = 2^E, and y = x / s is exact.
        divides: y = fl(x / s); otherwise a multiplication by a reciprocal that was rounded.
        two_level: a scale of the whole tensor stands above those of the blocks.
        zero_point: an integer z moves the block's range: restored is fl((q - z) s).
    """

    name: str
    code: int
    equation: str
    source: str
    power_of_two: bool = True
    divides: bool = False
    two_level: bool = False
    zero_point: bool = False


_ROWS = (
    ScaleRule("floor", FLOOR, "E = floor(log2 amax) - emax", _MX),
    ScaleRule(
        "shared_exponent", FLOOR,
        "E = floor(log2 amax) - emax; emax is 0: the exponent of the largest element",
        "Darvish Rouhani et al., Pushing the Limits of Narrow Precision Inferencing, NeurIPS 2020",
    ),
    ScaleRule("ceil", CEIL, "E = ceil(log2 amax) - emax", f"{_TORCHAO}: CEIL"),
    ScaleRule(
        "even", EVEN,
        "E = floor(log2 a) - emax, a = amax rounded to the significand of the elements",
        f"{_TORCHAO}: EVEN",
    ),
    ScaleRule(
        "ratio", RATIO, "E = ceil(log2 fl(amax / largest)): no element overflows",
        "NVIDIA cuBLAS documentation, 1D block quantization to UE8M0 scales; torchao: RCEIL; "
        "Mishra et al., arXiv 2506.08027",
    ),
    ScaleRule(
        "absmax", ABSMAX, "s = S(fl(amax / largest)), y = fl(x / s)",
        "DeepSeek-V3 Technical Report, arXiv 2412.19437, section 3.3",
        power_of_two=False, divides=True,
    ),
    ScaleRule(
        "absmax_reciprocal", RECIPROCAL, "s = S(fl(amax / largest)), y = fl(x fl(1 / s))",
        "Wang et al., 4-bit Shampoo, arXiv 2405.18144; torchao: NVFP4 without a tensor scale",
        power_of_two=False,
    ),
    ScaleRule(
        "nvfp4", TWO_LEVEL,
        "e = fl(L largest / amax of the tensor), L the largest scale; g = fl(1 / e); "
        "s = S(fl(fl(amax / largest) e)); y = fl(x fl(1 / fl(s g)))",
        "NVIDIA, Pretraining Large Language Models with NVFP4, arXiv 2509.25149, appendix; "
        "Transformer Engine",
        power_of_two=False, two_level=True,
    ),
    ScaleRule(
        "nvfp4_torchao", TWO_LEVEL_DIVIDED,
        "g = fl(amax of the tensor / (L largest)); s = S(fl(fl(amax / largest) / g)); "
        "y = fl(x fl(fl(1 / g) / s))",
        f"{_TORCHAO}: nvfp4_quantize (which stores no scale below 2^-6: least_scale)",
        power_of_two=False, two_level=True,
    ),
    ScaleRule(
        "minmax", MINMAX,
        "s = S(fl(fl(max(0, x) - min(0, x)) / (highest - lowest))), z = clamp(rint(fl(lowest - "
        "fl(min / s)))), q = clamp(round(fl(x / s)) + z)",
        "ONNX, DynamicQuantizeLinear",
        power_of_two=False, divides=True, zero_point=True,
    ),
)  # fmt: skip

RULES: Mapping[str, ScaleRule] = {row.name: row for row in _ROWS}
RULE_ALIASES = {"rceil": "ratio", "ocp": "floor", "msfp": "shared_exponent"}


def get_rule(name: str, where: str = "") -> ScaleRule:
    """The rule of that name or alias.

    Raises:
        InputError: no such rule.
    """
    return RULES[RULE_ALIASES.get(name, "") or choice(name, RULES, "rule", where)]
