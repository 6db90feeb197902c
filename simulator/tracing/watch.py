"""The first infinity or NaN: the operation that made it out of finite numbers."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.utils._pytree import tree_leaves

from ..operations import base_name, declared
from ..phase import Phase, differentiating, in_backward
from ..roles import Product

#: log(0) = -inf is exact, and how masks are written.
LOGARITHMS = frozenset({"log", "log2", "log10", "log1p"})


class NonFiniteError(FloatingPointError):
    """An operation made an infinity or NaN out of finite numbers.

    Attributes:
        step: optimizer steps that had ended.
        part: "forward", "backward" or "optimizer step".
        module: dotted name of the module, or of the parameter in an optimizer step; "" if unknown.
        op: the operation as PyTorch called it.
        inner: the operation inside of it, where it is composed, that made the first one.
        gemm: GEMM role of a matrix product, else "".
        ranges: by operand, its least nonzero and its largest magnitude.
    """

    def __init__(
        self, step: int, part: str, module: str, op: str, inner: str, gemm: str,
        made: str, ranges: dict[str, tuple[float, float]],
    ) -> None:  # fmt: skip
        self.step, self.part, self.module, self.op = step, part, module, op
        self.inner, self.gemm, self.ranges = inner, gemm, ranges
        within = f" (in {inner})" if inner and inner != op else ""
        role = f" ({gemm})" if gemm else ""
        operands = "; ".join(f"{n} {a:.3g} to {z:.3g}" for n, (a, z) in ranges.items())
        super().__init__(
            f"step {step}, {part}, {module or 'outside of the modules'}: {op}{within}{role} made "
            f"{made}; magnitudes that went in: {operands or 'none'}"
        )


class _Seen(NamedTuple):
    """Whether tensors and scalars hold an infinity or a NaN."""

    infinite: bool
    nan: bool


class Watch:
    """Looks at what goes into and comes out of every operation that computes.

    Raises `NonFiniteError` where a result is not finite though all that went in was (scalars such
    as the -inf of a mask's fill included), or is NaN though nothing that went in was. Movement and
    creation are not looked at, nor is -inf out of a logarithm or a conversion between formats:
    masks are written so. A composed operation is judged by its own result, whatever its steps hold
    on the way.
    """

    def __init__(self, phase: Phase) -> None:
        self.phase = phase
        self.product: Product | None = None
        self._depth = 0
        self._inner = ""

    def run(self, handler: Callable[..., Any], func: Any, args: Any, kwargs: Any) -> Any:
        """`handler(func, args, kwargs)`, looked at."""
        if declared(func) == "moved":
            return handler(func, args, kwargs)
        outermost = self._depth == 0
        if outermost:
            self._inner, self.product = "", None
        before = _look((args, kwargs))
        ranges = _ranges(args) if outermost and func._schema.is_mutable else None
        self._depth += 1
        try:
            result = handler(func, args, kwargs)
        finally:
            self._depth -= 1
        made = _made(func, before, _written(func, args) if result is None else result)
        if made and outermost:
            raise self._finding(func, made, _ranges(args) if ranges is None else ranges, args)
        if made and not self._inner:
            self._inner = base_name(func)
        return result

    def _finding(self, func: Any, made: str, ranges: list[Any], args: Any) -> NonFiniteError:
        product = self.product
        names = list(product.names) if product is not None else []
        if product is not None and len(ranges) > len(names):
            names = ["addend", *names] if base_name(func) in _ADDENDS else names
        names += [f"operand {i + 1}" for i in range(len(names), len(ranges))]
        known: dict[str, tuple[float, float]] = {}
        for name, limits in zip(names, ranges, strict=False):
            known[name if name not in known else f"second {name}"] = limits
        optimizing = self.phase.optimizing and not differentiating()
        part = "optimizer step" if optimizing else "backward" if in_backward() else "forward"
        module = (product.module if product else "") or self.phase.module
        if optimizing and not module:
            module = self._parameter(args)
        gemm = product.gemm if product else ""
        op = base_name(func)
        return NonFiniteError(self.phase.step, part, module, op, self._inner, gemm, made, known)

    def _parameter(self, args: Any) -> str:
        """The name of a parameter that an operation works on, or on the gradient of."""
        used = {x.data_ptr() for x in tree_leaves(args) if isinstance(x, torch.Tensor)}
        for name, p in self.phase.model.named_parameters() if self.phase.model else []:
            if p.data_ptr() in used or (p.grad is not None and p.grad.data_ptr() in used):
                return name
        return ""


_ADDENDS = frozenset({"addmm", "baddbmm", "addbmm", "addmv"})


def _floats(tree: Any) -> list[torch.Tensor]:
    leaves = tree_leaves(tree)
    return [x for x in leaves if isinstance(x, torch.Tensor) and x.is_floating_point()]


def _look(tree: Any) -> _Seen:
    """All tensors and scalars of arguments."""
    infinite = nan = False
    for x in tree_leaves(tree):
        if isinstance(x, torch.Tensor) and (x.is_floating_point() or x.is_complex()):
            if x.numel() and not bool(torch.isfinite(x).all()):
                nan = nan or bool(torch.isnan(x).any())
                infinite = infinite or bool(torch.isinf(x).any())
        elif isinstance(x, float):
            nan, infinite = nan or x != x, infinite or abs(x) == float("inf")
    return _Seen(infinite, nan)


def _written(func: Any, args: Any) -> Any:
    """What an operation without a result changed."""
    pairs = zip(func._schema.arguments, args, strict=False)
    return [x for argument, x in pairs if argument.alias_info and argument.alias_info.is_write]


def _made(func: Any, before: _Seen, result: Any) -> str:
    """What the result holds that nothing before did, in words; "" if nothing."""
    if before.nan:
        return ""
    found = _floats(result)
    after = _look(found)
    if not (after.nan or (after.infinite and not before.infinite)):
        return ""
    nan = sum(int(torch.isnan(x).sum()) for x in found)
    up = sum(int((x == float("inf")).sum()) for x in found)
    down = sum(int((x == -float("inf")).sum()) for x in found)
    if (base_name(func) in LOGARITHMS or declared(func) == "converted") and not (nan or up):
        return ""
    values = sum(x.numel() for x in found)
    return f"{up + down} infinite and {nan} NaN of {values} values"


def _ranges(args: Any) -> list[tuple[float, float]]:
    """Of each floating-point operand, the least nonzero and the largest finite magnitude."""
    limits = []
    for x in _floats(args):
        sizes = x.detach().abs()
        sizes = sizes[(sizes > 0) & torch.isfinite(sizes)]
        limits.append((float(sizes.min()), float(sizes.max())) if sizes.numel() else (0.0, 0.0))
    return limits
