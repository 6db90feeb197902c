"""An optimizer whose state comes back from a state_dict bit for bit."""

from collections.abc import Iterator
from copy import deepcopy
from itertools import chain
from typing import Any

import torch
from torch import Tensor

State = dict[str, Any]


class ExactStateOptimizer(torch.optim.Optimizer):
    """torch.optim.Optimizer that keeps the dtype of every state tensor when it is loaded.

    torch casts all state to the parameter's dtype, which would turn packed codes into floats
    and float32 scales into bfloat16; here tensors are only copied to the parameter's device.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over `state_dict`; raises as torch does if the groups do not match."""
        super().load_state_dict({"state": {}, "param_groups": state_dict["param_groups"]})
        saved = chain.from_iterable(g["params"] for g in state_dict["param_groups"])
        own = chain.from_iterable(g["params"] for g in self.param_groups)
        for key, p in zip(saved, own, strict=True):
            if key in state_dict["state"]:
                self.state[p] = _copied(state_dict["state"][key], p.device)

    def state_bytes(self) -> int:
        """Bytes that the state tensors of all parameters occupy now."""
        return sum(t.numel() * t.element_size() for t in tensors_in(list(self.state.values())))


def tensors_in(tree: Any) -> Iterator[Tensor]:
    """Every tensor in nested dictionaries and lists."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, dict):
        yield from tensors_in(list(tree.values()))
    elif isinstance(tree, list):
        for node in tree:
            yield from tensors_in(node)


def _copied(tree: Any, device: torch.device) -> Any:
    if isinstance(tree, Tensor):
        return tree.detach().clone().to(device)
    if isinstance(tree, dict):
        return {key: _copied(value, device) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_copied(value, device) for value in tree]
    return deepcopy(tree)
