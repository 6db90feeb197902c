"""emulate(): any PyTorch code computes as a chip would, forward, backward and optimizer step."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..formats.jit import start_threads
from .chip import Chip
from .dispatch import Dispatch
from .matrix import MatrixWork
from .memory import LossScaling, Memory
from .phase import Phase
from .recipe import Recipe
from .roles import Roles
from .steps import following_steps
from .tracing import Trace, Updates
from .vector import separate_operations


@contextmanager
def emulate(
    chip: Chip,
    recipe: Recipe,
    model: torch.nn.Module | None = None,
    seed: int = 0,
    *,
    state: Mapping[str, Any] | None = None,
) -> Iterator[Trace]:
    """Everything that PyTorch computes inside this context, computed as the chip would.

    Matrix products go to the chip's matrix units in the formats of the recipe, by role; +, -, *,
    /, sqrt are rounded to the vector unit's float32; functions such as exp are computed in float64
    and rounded once (or by the host, where the chip says so); sums follow the chip's order;
    composite operations (softmax, layer norm, losses, optimizer arithmetic) are taken apart into
    these; data movement is exact.

    Args:
        chip, recipe: see `load_chip` and `load_recipe`.
        model: names the modules and tells weights from activations; without it, any
            `nn.Parameter` is a weight.
        seed: of every random bit of the chip.
        state: `trace.state_dict()` of an interrupted run, to go on with its random streams,
            scales and stored weights.

    Yields:
        The trace.

    Raises:
        InputError: at once, if the chip lacks a unit or a rounding that the recipe needs; at an
            operation that nobody declared, by its name.
    """
    start_threads()
    phase, trace = Phase(model), Trace(seed)
    roles = Roles(phase)
    matrix = MatrixWork(chip, recipe, roles, trace)
    memory, scaling = Memory(recipe, phase, trace), LossScaling(recipe, phase, trace)
    updates = Updates(phase, trace)
    mode = Dispatch(chip, matrix, roles, phase, trace)
    if state is not None:
        trace.load_state_dict(state)
    parts = (scaling, updates, memory, roles)
    with phase.following(), following_steps(phase, parts), memory.keeping(), scaling.scaling():
        with sdpa_kernel(SDPBackend.MATH), separate_operations(), mode:
            yield trace
