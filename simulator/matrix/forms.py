"""Every form of a matrix product that PyTorch knows, brought to (B, M, K) @ (B, K, N)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from ..operations import base_name
from ..roles import Roles
from ..tracing import Trace
from .convolution import CONVOLUTIONS, Convolutions
from .work import MatrixWork

Inside = Callable[[Callable[..., Any], Any, Any], Any]
ADDEND = frozenset({"addmm", "baddbmm", "addbmm", "addmv"})


class Form(NamedTuple):
    """A product as the matrix unit takes it.

    Attributes:
        a: (B, M, K).
        b: (B, K, N).
        addend: broadcasts to (B, M, N); None if there is none.
        shape: of the result.
    """

    a: torch.Tensor
    b: torch.Tensor
    addend: torch.Tensor | None
    shape: list[int]


class Forms:
    """The handler of every operation that the matrix units compute.

    mm, bmm, mv, dot, vdot: a b. addmm, baddbmm, addmv, addbmm: beta c + alpha (a b), where c joins
    in the accumulator or the epilogue as the chip says if alpha = beta = 1, and otherwise each
    scaling and the sum are operations of the vector unit; c is not read if beta = 0. addbmm sums
    over k = (batch, k), the batch outermost. Convolutions: see `Convolutions`.
    """

    def __init__(self, matrix: MatrixWork, roles: Roles, trace: Trace, inside: Inside) -> None:
        self.matrix, self.roles, self.trace, self.inside = matrix, roles, trace, inside
        self.convolutions = Convolutions(matrix, roles, trace, inside)

    def __call__(self, func: torch._ops.OpOverload, args: Any, kwargs: Any) -> Any:
        """Compute the operation; in-place forms and out= receive a copy of the result."""
        name = base_name(func)
        self.trace.cover("bit_exact", name)
        if name in CONVOLUTIONS:
            return self.convolutions.run(func, args)
        if name == "_trilinear":
            return self.inside(_trilinear, args, kwargs)
        out = kwargs.get("out")
        if out is None and func._schema.is_mutable:
            out = args[0]
        result = self._product(func, name, args, kwargs)
        if out is None:
            return result
        if out.shape != result.shape:
            out.resize_(result.shape)
        return out.copy_(result)

    def _product(
        self, func: torch._ops.OpOverload, name: str, args: Any, kwargs: Any
    ) -> torch.Tensor:
        start = 1 if name in ADDEND else 0
        a, b = args[start : start + 2]
        if a.dtype != b.dtype or not _fit(name, a, b):
            result: torch.Tensor = func(*args, **kwargs)  # raises what PyTorch has to say
            return result
        alpha, beta = kwargs.get("alpha", 1), kwargs.get("beta", 1)
        addend = (
            args[0].to(torch.promote_types(args[0].dtype, torch.float32))
            if start and beta != 0
            else None
        )
        form = _form(name, a, b, addend)
        inside = form.addend if alpha == 1 and beta == 1 else None
        product = self._multiply(a, b, form, inside)
        if alpha != 1:
            product = self.inside(torch.mul, (product, alpha), {})
        if form.addend is not None and inside is None:
            scaled = form.addend if beta == 1 else self.inside(torch.mul, (form.addend, beta), {})
            product = self.inside(torch.add, (product, scaled), {})
        widened = func._overloadname.startswith("dtype")
        return product.reshape(form.shape).to(args[start + 2] if widened else a.dtype)

    def _multiply(
        self, a: torch.Tensor, b: torch.Tensor, form: Form, bias: torch.Tensor | None
    ) -> torch.Tensor:
        """Nothing is multiplied where an extent is zero: the sums are empty."""
        roles = self.roles.product(a, b)
        if form.a.numel() and form.b.numel():
            return self.matrix.run(roles, form.a, form.b, bias)
        empty = torch.zeros(*form.a.shape[:-1], form.b.shape[-1], device=form.a.device)
        return empty if bias is None else empty + bias


def _form(name: str, a: torch.Tensor, b: torch.Tensor, addend: torch.Tensor | None) -> Form:
    if name in ("mv", "addmv"):
        column = None if addend is None else addend.expand(a.shape[0])[:, None]
        return Form(a[None], b[None, :, None], column, [a.shape[0]])
    if name in ("dot", "vdot"):
        return Form(a[None, None, :], b[None, :, None], None, [])
    if name == "addbmm":
        rows, columns = a.shape[1], b.shape[2]
        flat = a.transpose(0, 1).reshape(1, rows, -1)
        return Form(flat, b.reshape(1, -1, columns), addend, [rows, columns])
    if a.ndim == 2:
        return Form(a[None], b[None], addend, [a.shape[0], b.shape[1]])
    return Form(a, b, addend, [a.shape[0], a.shape[1], b.shape[2]])


def _fit(name: str, a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether the extents and dimensions are those of the operation."""
    dims = {"mv": (2, 1), "addmv": (2, 1), "dot": (1, 1), "vdot": (1, 1), "mm": (2, 2)}
    expected = dims.get(name) or ((2, 2) if name == "addmm" else (3, 3))
    if (a.ndim, b.ndim) != expected or a.shape[-1] != b.shape[-2 if b.ndim > 1 else 0]:
        return False
    return a.ndim < 3 or a.shape[0] == b.shape[0]


def _trilinear(
    x: torch.Tensor,
    w: torch.Tensor,
    y: torch.Tensor,
    expand_x: list[int],
    expand_w: list[int],
    expand_y: list[int],
    summed: list[int],
    unrolled: int = 1,
) -> torch.Tensor:
    """sum over `summed` of x w y (nn.Bilinear): two products, x w first.

    Each operand lacks the dimensions of the result that its `expand` names.
    """
    dims = range(x.ndim + len(expand_x))
    letters = [
        "".join(chr(97 + d) for d in dims if d not in e) for e in (expand_x, expand_w, expand_y)
    ]
    kept = "".join(chr(97 + d) for d in dims if d not in summed)
    return torch.einsum(f"{','.join(letters)}->{kept}", x, w, y)
