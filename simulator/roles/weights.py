"""Which tensors are weights: parameters, and what is computed from parameters alone.

A product takes its highest operand for the weight, so that a parameter that is used as an input
(learned queries, an image that is optimized) does not pass for the weight of the layer it enters:

    4  a parameter of the model, and what a parametrization of the model returns;
    3  any other `nn.Parameter`;
    2  a tensor computed from weights, buffers and scalars alone: a cast, a copy, a weight times
       its mask or over its norm;
    1  without a model, a leaf of at most two dimensions that requires a gradient.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch._C._functorch import get_unwrapped, is_functorch_wrapped_tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.utils.parametrize import ParametrizationList

from .product import address, gone, reference

MODEL, PARAMETER, DERIVED, LEAF = 4, 3, 2, 1
_SWEEP = 4096
_FRESH = ("_like", "new_", "empty", "rand", "bernoulli", "multinomial", "normal", "full")


class Weight(NamedTuple):
    """A weight's rank among candidates, the module that owns it, and what pins its address."""

    rank: int
    owner: str
    reference: StorageWeakRef | None


class Weights:
    """The known weights, by storage."""

    def __init__(self) -> None:
        self._known: dict[int, Weight] = {}
        self._buffers: dict[int, StorageWeakRef] = {}
        self._sweep_at = _SWEEP
        self._leaves = True

    def find(self, model: torch.nn.Module | None) -> None:
        """Parameters and buffers of a model, where they are now."""
        self._leaves = model is None
        known = {i: w for i, w in self._known.items() if w.rank < MODEL and not gone(w.reference)}
        for name, parameter in model.named_parameters() if model is not None else []:
            if not torch.nn.parameter.is_lazy(parameter):
                known[address(parameter)] = self._model(parameter, name.rpartition(".")[0])
        self._known = known
        self._buffers = {}
        for buffer in model.buffers() if model is not None else []:
            if buffer.is_floating_point():
                self._buffers[address(buffer)] = reference(buffer)

    def entered(self, name: str, module: torch.nn.Module) -> None:
        """A module's forward begins: what stands in its parameters' places are weights."""
        for parameter in module._parameters.values():
            if parameter is None or torch.nn.parameter.is_lazy(parameter):
                continue
            x = _unwrapped(parameter)
            known = self._known.get(address(x))
            if known is None or known.rank < MODEL:
                self._known[address(x)] = self._model(x, name)

    def left(self, name: str, module: torch.nn.Module, output: Any) -> None:
        """What a parametrization returns is a weight of the module that it is of."""
        if isinstance(module, ParametrizationList) and isinstance(output, torch.Tensor):
            x = _unwrapped(output)
            self._known[address(x)] = self._model(x, _parametrized(name))

    def of(self, x: torch.Tensor) -> Weight | None:
        """A tensor's place among the weights, None if it is none."""
        return self._known.get(address(x)) or self._unknown(x)

    def at(self, place: int, x: torch.Tensor) -> Weight | None:
        """`of`, for a caller who has the storage's address."""
        return self._known.get(place) or self._unknown(x)

    def derive(self, func: torch._ops.OpOverload, args: Any, result: Any) -> None:
        """A result of weights, buffers and scalars alone is a weight."""
        owner = None
        for x in args:
            if isinstance(x, torch.Tensor):
                tensors: Sequence[torch.Tensor] = (x,)
            elif isinstance(x, list | tuple) and x and isinstance(x[0], torch.Tensor):
                tensors = x
            else:
                continue
            for tensor in tensors:
                found = self._owner(tensor)
                if found is None:
                    return
                owner = found if owner is None or owner is _NEUTRAL else owner
        if owner is not None and owner is not _NEUTRAL and _holds_values(func, result):
            if address(result) not in self._known:
                self._add(result, DERIVED, owner)

    def add(self, copy: torch.Tensor, weight: Weight) -> None:
        """A copy of a weight."""
        self._add(copy, DERIVED, weight.owner)

    def _owner(self, x: torch.Tensor) -> str | None:
        """The owner of a weight; `_NEUTRAL` for a buffer or scalar; None for any other tensor."""
        place = address(x)
        weight = self._known.get(place)
        if weight is None:
            if x.ndim == 0 or place in self._buffers:
                return _NEUTRAL
            weight = self._unknown(x)
            if weight is None or weight.rank == LEAF:
                return None
        return weight.owner

    def _unknown(self, x: torch.Tensor) -> Weight | None:
        """A tensor whose storage nobody has seen."""
        source = x._base if x._is_view() else x
        if source is None or not (type(source) is not torch.Tensor or source.requires_grad):
            return None
        if isinstance(source, torch.nn.Parameter):
            return self._add(x, PARAMETER, "")
        if self._leaves and source.requires_grad and source.is_leaf and source.ndim < 3:
            recomputed = torch._C._current_graph_task_id() != -1  # a checkpoint's detached inputs
            return None if recomputed else Weight(LEAF, "", None)
        return None

    def _add(self, x: torch.Tensor, rank: int, owner: str) -> Weight:
        if len(self._known) >= self._sweep_at:
            self._known = {i: w for i, w in self._known.items() if not gone(w.reference)}
            self._sweep_at = max(_SWEEP, 2 * len(self._known))
        weight = self._known[address(x)] = Weight(rank, owner, reference(x))
        return weight

    def _model(self, x: torch.Tensor, owner: str) -> Weight:
        known = self._known.get(address(x))
        if known is not None and known.rank == MODEL and known.owner == owner:
            return known
        return Weight(MODEL, owner, reference(x))


#: An owner that no module has: what takes part in a weight's making without being one.
_NEUTRAL = "*"


def _holds_values(func: torch._ops.OpOverload, result: Any) -> bool:
    """Whether a result is a tensor made of its arguments' values, not of their shape alone."""
    name = func._schema.name.removeprefix("aten::")
    return (
        isinstance(result, torch.Tensor)
        and result.ndim > 0
        and not any(part in name for part in _FRESH)
    )


def _parametrized(name: str) -> str:
    """`layer` for layer.parametrizations.weight, "" for parametrizations.weight."""
    return f".{name}".partition(".parametrizations.")[0][1:]


def _unwrapped(x: torch.Tensor) -> torch.Tensor:
    """The tensor below the wrappers of torch.func."""
    while is_functorch_wrapped_tensor(x):
        x = get_unwrapped(x)
    return x
