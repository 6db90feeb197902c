"""Roles of products, from autograd's own numbering of its nodes.

Forward, the operand that is a weight makes the product a layer's; without one it is attention.
The product is remembered under the number of the autograd node that stands for it. Backward, the
running node has that number, which gives the module and the forward operands; of the node's two
products, gradient x b^T and a^T x gradient, the one that contains the weight is dgrad, the other
wgrad, and both are dgrad for attention. Which of the two it is follows from the operand that the
forward product shares storage with; where a copy broke that, from the extents of the sum.

A product of a backward pass that is itself differentiated (create_graph=True) is remembered in
the same way, by what it multiplied then. Inside `optimizer.step()`, but not in a closure that it
calls, all operands are the optimizer's.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch.autograd.function import BackwardCFunction

from ..phase import Phase, in_backward, recomputing
from .product import OPTIMIZER, Extent, Product, Use, address, extent, make_product
from .records import Records, node_name, running_node
from .weights import Weight, Weights

_COPIES = frozenset({torch.ops.aten.clone.default, torch.ops.aten._to_copy.default})
_NAMES = {
    0: ("weight", "activation"),
    1: ("activation", "weight"),
    None: ("activation", "activation"),
}


class _Found(NamedTuple):
    """Which operand of a forward product came back, and on which side."""

    use: Use
    operand: int
    side: int


class Roles:
    """Tells what the operands of a product are."""

    def __init__(self, phase: Phase) -> None:
        self.phase = phase
        self.weights = Weights()
        self.records = Records()
        self._gradient = (-1, 0)
        self.weights.find(phase.model)
        phase.entered.append(self.weights.entered)
        phase.left.append(self.weights.left)

    def product(self, a: torch.Tensor, b: torch.Tensor) -> Product:
        """The roles of a @ b, in the phase that the run is in.

        Args:
            a, b: the tensors that PyTorch multiplies, not copies.
        """
        if self.phase.optimizing and not self._differentiating(a, b):
            return OPTIMIZER
        return self._backward(a, b) if in_backward() else self._forward(a, b)

    def convolution(self, x: torch.Tensor, filters: torch.Tensor) -> Product:
        """The roles of a convolution: its filters are weights, whoever made them.

        A convolution in a backward pass is one of the terms of a second derivative.
        """
        if self.phase.optimizing and not self._differentiating(x, filters):
            return OPTIMIZER
        weight = self.weights.of(filters)
        if in_backward():
            if weight is not None:
                return self.convolution_gradient("dgrad")
            return self.convolution_gradient("wgrad")
        module = self.phase.module or (weight.owner if weight is not None else "")
        names = ("activation", "weight")
        self.records.remember(
            self.records.use(x, filters, _places(x, filters), names, True, module)
        )
        return make_product("fprop", names, True, module)

    def convolution_gradient(self, gemm: str) -> Product:
        """The roles of one of the products of a convolution's backward."""
        names = ("gradient", "weight") if gemm == "dgrad" else ("gradient", "activation")
        uses = self.records.recorded()
        return make_product(gemm, names, True, uses[0].module if uses else self.phase.module)

    def note_result(self, func: torch._ops.OpOverload, args: Any, result: Any) -> None:
        """Follow weights through what is computed from them, and saved tensors through copies."""
        if in_backward():
            if func in _COPIES:
                self._copied(args[0], result)
            return
        if not self.phase.optimizing:
            self.weights.derive(func, args, result)
        if recomputing():
            self.note_saved(result)

    def note_saved(self, result: object) -> None:
        """A tensor that stands for a saved one in the backward pass: it is no gradient."""
        if isinstance(result, torch.Tensor) and self.weights.of(result) is None:
            self.records.note_saved(result)

    def note_copy(self, copy: torch.Tensor, original: torch.Tensor) -> None:
        """`copy` stands for `original` in the backward pass: what memory gives back."""
        self.records.note_copy(copy, original)

    def _copied(self, original: torch.Tensor, copy: torch.Tensor) -> None:
        """In the backward pass, what a forward product multiplied may be laid out anew."""
        place = address(original)
        if address(copy) == place:
            return
        weight = self.weights.at(place, original)
        if weight is not None:
            self.weights.add(copy, weight)
        elif self.records.is_saved(place):
            self.records.note_copy(copy, original)

    def _forward(self, a: torch.Tensor, b: torch.Tensor) -> Product:
        places = address(a), address(b)
        left, right = self.weights.at(places[0], a), self.weights.at(places[1], b)
        module = self.phase.module
        side = _weight_side(left, right, module)
        if side is not None and not module:
            module = (right if side else left).owner  # type: ignore[union-attr]
        names, layer = _NAMES[side], side is not None
        use = self.records.use(a, b, places, names, layer, module)
        self.records.remember(use)
        self.records.remember_operands(use)
        return make_product("fprop", names, layer, module)

    def _backward(self, a: torch.Tensor, b: torch.Tensor) -> Product:
        node = running_node()
        found = self._find(self.records.recorded(), a, b)
        if isinstance(found, Product):
            return found
        names = ["gradient", "gradient"]
        gemm, layer, module = "dgrad", False, self.phase.module
        if found is not None:
            use = found.use
            layer, module = use.layer, use.module or module
            weight = use.names[found.operand] == "weight"
            names[found.side] = "weight" if weight else "activation"
            gemm = "wgrad" if layer and not weight else "dgrad"
            self._gradient = node, address(b if found.side == 0 else a)
        product = make_product(gemm, (names[0], names[1]), layer, module)
        if torch.is_grad_enabled():
            self.records.remember(
                self.records.use(a, b, _places(a, b), product.names, layer, module)
            )
        return product

    def _find(
        self, uses: Sequence[Use], a: torch.Tensor, b: torch.Tensor
    ) -> _Found | Product | None:
        """The forward operand in a product of the backward pass."""
        here = _places(a, b)
        places = self.records.original(here[0]), self.records.original(here[1])
        for use in uses:
            hits = [place in use.addresses for place in places]
            if all(hits) and isinstance(torch._C._current_autograd_node(), BackwardCFunction):
                return make_product("fprop", use.names, use.layer, use.module)
            if any(hits):
                side = hits.index(True)
                return _Found(use, use.addresses.index(places[side]), side)
        weights = self.weights.of(a), self.weights.of(b)
        for use in uses:
            if any(weights) and "weight" in use.names:
                return _Found(use, use.names.index("weight"), 0 if weights[0] is not None else 1)
            guesses = _by_extent(use, extent(a.shape, b.shape), self._saved_side(here))
            if guesses:
                return guesses[
                    _turn(self._gradient[0] == running_node()) if len(guesses) > 1 else 0
                ]
        return self._by_storage(places, weights, a, b)

    def _saved_side(self, places: tuple[int, int]) -> int | None:
        """The operand that is no gradient, if a storage tells."""
        for side, place in enumerate(places):
            if (running_node(), place) == self._gradient:
                return 1 - side
        for side, place in enumerate(places):
            if self.records.is_saved(place):
                return side
        return None

    def _by_storage(
        self,
        places: tuple[int, int],
        weights: tuple[Weight | None, Weight | None],
        a: torch.Tensor,
        b: torch.Tensor,
    ) -> _Found | None:
        """Autograd's number leads nowhere: operands are still known by their storage."""
        side = _weight_side(*weights, self.phase.module)
        if side is None:
            for side, place in enumerate(places):
                use = self.records.last_use(place)
                if use is not None:
                    return _Found(use, use.addresses.index(place), side)
            return None
        owner = weights[side].owner  # type: ignore[union-attr]
        return _Found(self.records.use(a, b, _places(a, b), _NAMES[side], True, owner), side, side)

    def _differentiating(self, a: torch.Tensor, b: torch.Tensor) -> bool:
        """Whether a closure runs forward or backward inside of `optimizer.step()`."""
        if torch._C._current_graph_task_id() != -1 or self.phase.entered_any:
            return True
        return torch.is_grad_enabled() and (a.requires_grad or b.requires_grad)

    def step_begins(self, optimizer: torch.optim.Optimizer) -> None:
        """See `steps.Part`."""

    def step_ends(self, optimizer: torch.optim.Optimizer) -> None:
        """Parameters may have moved."""
        self.weights.find(self.phase.model)


def _weight_side(a: Weight | None, b: Weight | None, module: str) -> int | None:
    """0 or 1: the higher rank; among equals the module's own, else the second, as in x W^T."""
    if a is None or b is None:
        return 0 if a is not None else 1 if b is not None else None
    if a.rank != b.rank:
        return 0 if a.rank > b.rank else 1
    return 0 if a.owner == module and b.owner != module else 1


def _by_extent(use: Use, here: Extent, side: int | None) -> list[_Found]:
    """From the extents: gradient (M, N) x b^T sums over N, a^T x gradient over M."""
    m, k, n = extent(*use.shapes)
    rows, depth, columns = here
    outer = {rows, columns}
    needed = use.needed if any(use.needed) else (True, True)
    found = []
    if needed[0] and depth == n and outer == {m, k}:
        found.append(_Found(use, 1, 1 if rows == m else 0))
    if needed[1] and depth == m and outer == {k, n}:
        found.append(_Found(use, 0, 0 if rows == k else 1))
    return [f if side is None else f._replace(side=side) for f in found]


def _places(a: torch.Tensor, b: torch.Tensor) -> tuple[int, int]:
    return address(a), address(b)


def _turn(second: bool) -> int:
    """If M = N: 0 if gradient x b^T is due, 1 if a^T x gradient is.

    A node computes the gradients of its arguments in the order of their names: `mat1, mat2` with
    an addend, `mat2, self` without.
    """
    return int(second != (node_name() in ("MmBackward0", "BmmBackward0")))
