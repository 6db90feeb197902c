"""Who is who in a matrix product: GEMM role, operand roles and module, found without help.

Forward, an operand that shares storage with a parameter is a weight, any other an activation.
Backward, a product multiplies a gradient with an operand that the forward pass multiplied: an
operand with a parameter's storage is a weight, one with a storage seen in a forward product is an
activation, any other is the gradient. gradient x weight is dgrad; activation x gradient is wgrad
if the activation once met a weight, else (attention) dgrad. Inside `optimizer.step()`, but not in
a closure that it calls, all are optimizer operands. Recomputation under checkpointing runs with
gradients enabled, which tells it from the backward pass proper.
"""

from typing import NamedTuple

import torch
from torch.multiprocessing.reductions import StorageWeakRef

from .phase import Phase, differentiating, in_backward

Shape = tuple[int, ...]
_RECOMPUTED = "?"


class Product(NamedTuple):
    """The roles of one matrix product.

    Attributes:
        gemm: "fprop", "dgrad", "wgrad" or "optimizer".
        a, b: operand roles, keys of a recipe.
        names: what the operands are, for the trace.
        module: dotted name of the module, "" outside of the model.
    """

    gemm: str
    a: str
    b: str
    names: tuple[str, str]
    module: str


class _Seen(NamedTuple):
    """A forward operand: a reference that keeps its address taken, and where it was used."""

    reference: StorageWeakRef
    uses: dict[Shape, tuple[str, bool]]


class Roles:
    """Tells what the operands of a product are."""

    def __init__(self, phase: Phase) -> None:
        self.phase = phase
        self._weights: dict[int, str] = {}
        self._seen: dict[int, _Seen] = {}
        self._met: dict[int, str] = {}
        self._sweep_at = 1024
        self._find_weights()

    def note_parameter(self, tensor: torch.Tensor) -> None:
        """Without a model, any `nn.Parameter` that passes by is a weight."""
        self._weights.setdefault(_address(tensor), "")

    def product(self, a: torch.Tensor, b: torch.Tensor) -> Product:
        """The roles of a @ b, in the phase that the run is in."""
        if self.phase.optimizing and not differentiating():
            return Product("optimizer", "optimizer", "optimizer", ("optimizer", "optimizer"), "")
        return self._backward(a, b) if in_backward() else self._forward(a, b)

    def _forward(self, a: torch.Tensor, b: torch.Tensor) -> Product:
        weights = [self._weights.get(_address(x)) for x in (a, b)]
        layer = any(w is not None for w in weights)
        owner = next((w for w in weights if w is not None), "")
        module = self.phase.module or owner
        for x, weight in zip((a, b), weights, strict=True):
            if weight is None:
                self._remember(x, module, layer)
        names = ["weight" if w is not None else "activation" for w in weights]
        return _product("fprop", names, layer, module)

    def _backward(self, a: torch.Tensor, b: torch.Tensor) -> Product:
        module, layer, wgrad = "", False, False
        names = []
        for x, other in ((a, b), (b, a)):
            weight = self._weights.get(_address(x))
            use = None if weight is not None else self._use_of(x)
            if weight is not None:
                module, layer = weight, True
                self._met[_address(other)] = weight
            elif use is not None:
                module, layer = use
                wgrad = layer
                if module is _RECOMPUTED:
                    module = self._met.get(_address(other), "")
            name = "weight" if weight is not None else "activation" if use else "gradient"
            names.append(name)
        return _product("wgrad" if wgrad else "dgrad", names, layer, module)

    def note_recomputed(self, result: object) -> None:
        """What a checkpointed forward makes again is an activation, whatever uses it.

        Its recomputation stops before the last product, so no forward product may ever see it;
        its module is that of the weight which the same gradient met just before.
        """
        if isinstance(result, torch.Tensor) and _address(result) not in self._weights:
            known = self._seen.setdefault(
                _address(result),
                _Seen(StorageWeakRef(result.untyped_storage()), {}),  # type: ignore[no-untyped-call]
            )
            known.uses.setdefault(_shape(result), (_RECOMPUTED, True))

    def note_copy(self, copy: torch.Tensor, original: torch.Tensor) -> None:
        """`copy` stands for `original` in the backward pass: what memory gives back."""
        known = self._seen.setdefault(
            _address(original),
            _Seen(StorageWeakRef(original.untyped_storage()), {}),  # type: ignore[no-untyped-call]
        )
        reference = StorageWeakRef(copy.untyped_storage())  # type: ignore[no-untyped-call]
        self._seen[_address(copy)] = _Seen(reference, known.uses)

    def _remember(self, x: torch.Tensor, module: str, layer: bool) -> None:
        storage = x.untyped_storage()
        address = _address(x)
        seen = self._seen.get(address)
        if seen is None:
            self._sweep()
            seen = self._seen[address] = _Seen(StorageWeakRef(storage), {})  # type: ignore[no-untyped-call]
        seen.uses[_shape(x)] = (module, layer)

    def _use_of(self, x: torch.Tensor) -> tuple[str, bool] | None:
        seen = self._seen.get(_address(x))
        if seen is None or not seen.uses:
            return None
        return seen.uses.get(_shape(x)) or next(reversed(seen.uses.values()))

    def _sweep(self) -> None:
        """Forget storages that are gone; a live reference keeps its address from being reused."""
        if len(self._seen) < self._sweep_at:
            return
        self._seen = {k: s for k, s in self._seen.items() if not _gone(s)}
        self._sweep_at = max(1024, 2 * len(self._seen))

    def _find_weights(self) -> None:
        model = self.phase.model
        for name, parameter in model.named_parameters() if model is not None else []:
            self._weights[_address(parameter)] = name.rpartition(".")[0]

    def step_begins(self, optimizer: torch.optim.Optimizer) -> None:
        """See `steps.Part`."""

    def step_ends(self, optimizer: torch.optim.Optimizer) -> None:
        """The graph of this step is gone; parameters may have moved."""
        self._find_weights()
        self._met.clear()


def _product(gemm: str, names: list[str], layer: bool, module: str) -> Product:
    a, b = names
    return Product(gemm, *((a, b) if layer else ("attention", "attention")), (a, b), module)


def _gone(seen: _Seen) -> bool:
    return bool(seen.reference.expired())  # type: ignore[no-untyped-call]


def _address(x: torch.Tensor) -> int:
    return int(x.untyped_storage()._cdata)


def _shape(x: torch.Tensor) -> Shape:
    return tuple(sorted(x.shape))
