"""Every declared operation of PyTorch, by what becomes of it on a chip.

Names are those of aten without overload and without the trailing underscore of in-place forms.
"""

from collections.abc import Callable
from typing import Any, Literal, TypeVar

import torch
from torch._decomp import decomposition_table

from ...formats.errors import InputError, choice

Kind = Literal["matrix", "exact", "function", "reduction", "moved", "pointwise", "composite"]

F = TypeVar("F", bound=Callable[..., Any])

#: Matrix units.
MATRIX = frozenset(
    """mm addmm bmm baddbmm addbmm mv addmv dot vdot _trilinear convolution _convolution
    convolution_overrideable convolution_backward convolution_backward_overrideable""".split()
)

#: Vector unit, one IEEE operation or none: correctly rounded by the host's float32 as well.
EXACT = frozenset(
    """add sub rsub mul div neg abs sqrt reciprocal maximum minimum fmax fmin max min amax amin
    argmax argmin clamp clamp_min clamp_max relu threshold threshold_backward hardtanh sign sgn
    signbit copysign floor ceil round trunc frac fmod floor_divide eq ne lt le gt ge equal isnan
    isinf isfinite isclose where masked_fill logical_and logical_or logical_not logical_xor any all
    nonzero sort topk kthvalue median bucketize searchsorted nan_to_num heaviside positive
    bitwise_and bitwise_or bitwise_xor bitwise_not bitwise_left_shift bitwise_right_shift
    __and__ __or__ __xor__ __lshift__ __rshift__ aminmax count_nonzero""".split()
)

#: Vector unit, functions: computed in float64 and rounded once, or by the host.
FUNCTIONS = frozenset(
    """exp exp2 expm1 log log2 log10 log1p sin cos tan asin acos atan atan2 sinh cosh tanh asinh
    acosh atanh erf erfc erfinv sigmoid rsqrt pow hypot lgamma digamma remainder
    linalg_cholesky_ex linalg_eigh _linalg_eigh linalg_qr linalg_solve_triangular linalg_inv_ex
    _linalg_solve_ex linalg_lu_factor_ex triangular_solve""".split()
)

#: Vector unit, additions in the chip's order.
REDUCTIONS = frozenset({"sum", "mean"})

#: Composites without a sum: step by step, or whole where the host's functions are the chip's.
POINTWISE = frozenset(
    """gelu gelu_backward silu silu_backward sigmoid_backward tanh_backward addcmul addcdiv lerp
    softplus softplus_backward leaky_relu leaky_relu_backward elu elu_backward mish hardswish
    hardsigmoid log_sigmoid_forward xlogy""".split()
)

#: Memory: values change place, never bits; creation and random numbers of the host.
MOVED = frozenset(
    """view _unsafe_view reshape _reshape_alias t transpose permute movedim expand expand_as
    broadcast_to squeeze unsqueeze slice select narrow split split_with_sizes chunk unbind cat stack
    clone copy contiguous detach alias as_strided unfold index index_select gather take scatter
    masked_select masked_scatter embedding flip roll repeat repeat_interleave tile tril triu diag
    diagonal diag_embed diagonal_copy fill zero zeros ones zeros_like ones_like empty empty_like
    empty_strided full full_like new_zeros new_ones new_empty new_empty_strided new_full arange
    linspace eye tril_indices triu_indices scalar_tensor rand randn rand_like randn_like randint
    randint_like randperm normal uniform bernoulli exponential multinomial native_dropout
    _to_copy lift_fresh lift lift_fresh_copy _local_scalar_dense is_same_size set resize
    constant_pad_nd select_backward slice_backward diagonal_backward slice_scatter select_scatter
    diagonal_scatter as_strided_scatter index_fill index_copy _unsafe_index one_hot view_as
    unsafe_split unsafe_chunk swapaxes real view_as_real is_pinned item numpy_T sym_size
    split_copy unbind_copy transpose_copy expand_copy t_copy permute_copy""".split()
)

_GROUPS: tuple[tuple[Kind, frozenset[str]], ...] = (
    ("matrix", MATRIX),
    ("exact", EXACT),
    ("function", FUNCTIONS),
    ("reduction", REDUCTIONS),
    ("pointwise", POINTWISE),
    ("moved", MOVED),
)
_DECLARED: dict[str, Kind | Callable[..., Any]] = {n: kind for kind, ns in _GROUPS for n in ns}
#: Random masks are the host's; what the vector unit does is the multiplication.
_DECLARED["native_dropout"] = "composite"


def register_op(name: str, kind: Kind | None = None) -> Callable[[F], F]:
    """Declare what becomes of an operation that Tapeout does not know.

    As a decorator it takes a function of the operation's arguments that is built from declared
    operations, each of which is then emulated:

        @register_op("my_library::scaled_tanh")
        def scaled_tanh(x, scale):
            return torch.tanh(x) * scale

    With `kind` ("exact", "function", "moved", ...) it only classifies:
    `register_op("my_library::shuffle", kind="moved")`.

    Raises:
        InputError: `kind` is not one of those of this module.
    """
    base = name.removeprefix("aten::")
    if kind is not None:
        _DECLARED[base] = _kind(kind)

    def declare(function: F) -> F:
        _DECLARED[base] = function
        return function

    return declare


def _kind(kind: str) -> Kind:
    allowed = [name for name, _ in _GROUPS] + ["composite"]
    choice(kind, allowed, "kind", "register_op")
    return kind  # type: ignore[return-value]


def base_name(func: torch._ops.OpOverload) -> str:
    """`add` for aten::add_.Tensor; `library::op` outside of aten and prims."""
    space, _, name = func._schema.name.partition("::")
    if name.endswith("_") and not name.endswith("__"):
        name = name[:-1]
    return name if space in ("aten", "prims") else f"{space}::{name}"


def declared(func: torch._ops.OpOverload) -> Kind | Callable[..., Any] | None:
    """What becomes of an operation; None if nobody declared it."""
    found = _DECLARED.get(base_name(func))
    if found is not None:
        return found
    if func in decomposition_table:
        return "composite"
    return None


class UndeclaredOperation(InputError):
    """An operation that nobody declared."""


def undeclared(func: torch._ops.OpOverload) -> UndeclaredOperation:
    """The refusal of an operation, with what to do."""
    name = func._schema.name
    return UndeclaredOperation(
        f"operation {name} ({func._overloadname}) has no emulation: write it with operations that "
        f'have one, or declare it with @register_op("{name}") (see tapeout.simulator.register_op)'
    )
