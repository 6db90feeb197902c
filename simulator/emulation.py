"""emulate(): any PyTorch code computes as a chip would, forward, backward and optimizer step."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from ..formats.device.place import host_fallback as on_host_instead
from ..formats.jit import start_threads
from .backends import taken_apart
from .chip import Chip
from .dispatch import Dispatch
from .matrix import MatrixWork
from .memory.loss_scaling import LossScaling
from .memory.memory import Memory
from .phase import Phase
from .recipe import Recipe
from .roles import Roles
from .steps import following_steps
from .tracing import Events, Recorder, Trace, Updates


@contextmanager
def emulate(
    chip: Chip,
    recipe: Recipe,
    model: torch.nn.Module | None = None,
    seed: int = 0,
    *,
    state: Mapping[str, Any] | None = None,
    sample_every: int = 1,
    stop_at_nonfinite: bool = False,
    recorder: Recorder | None = None,
    host_fallback: bool = False,
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
        sample_every: the optimizer steps between two that the trace counts, the first included.
        stop_at_nonfinite: whether the first operation that makes an infinity or NaN out of finite
            numbers ends the run; see `tracing.watch` for what is looked at.
        recorder: takes a digest of every operation's result, to compare two runs by; no bit of the
            run depends on it. Not together with `stop_at_nonfinite`.
        host_fallback: for tensors on a CUDA device: whether what has no kernel there is computed on
            the host, and told in the coverage, rather than refused.

    Yields:
        The trace.

    Raises:
        NonFiniteError: an operation made an infinity or NaN, and `stop_at_nonfinite`.
        InputError: at once, if the chip lacks a unit or a rounding that the recipe needs; at an
            operation that nobody declared, by its name.
    """
    start_threads()
    phase = Phase(model)
    trace = Trace(seed, phase, sample_every, stop_at_nonfinite, recorder)
    roles = Roles(phase)
    matrix = MatrixWork(chip, recipe, roles, trace)
    memory, scaling = Memory(chip, recipe, phase, trace), LossScaling(recipe, phase, trace)
    memory.connect(scaling, roles)
    updates, events = Updates(phase, trace), Events(trace)
    mode = Dispatch(chip, matrix, roles, phase, trace)
    if state is not None:
        trace.load_state_dict(state)
    parts = (scaling, updates, events, memory, roles)
    note = partial(trace.cover, "host") if host_fallback else None
    with phase.following(), following_steps(phase, parts), memory.keeping(), scaling.scaling():
        with on_host_instead(note), taken_apart(), mode:
            yield trace
