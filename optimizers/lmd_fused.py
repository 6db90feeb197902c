"""Blocks of LMD stepped by `kernels.lmd`: which ones, and what the kernel is told."""

from math import log
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.graph import increment_version
from torch.utils._python_dispatch import _get_current_dispatch_mode

from ..formats.jit import start_threads
from .components import Group, storage
from .kernels import lmd as kernels
from .kernels.noise import GRAIN, RUN
from .lmd_blocks import Block
from .medians import LogMedians, limits
from .noise import NOISE_LAWS, SHORTEST, Place

Array = NDArray[Any]

REGULARIZERS = {
    "lognormal": kernels.LOGNORMAL,
    "constant": kernels.CONSTANT,
    "gaussian": kernels.GAUSSIAN,
    "exponential": kernels.EXPONENTIAL,
}
_NONE = np.empty((2, 0), np.float32)


def fusible(block: Block) -> bool:
    """Whether the kernel may step a block: float32 medians on the CPU, and no mode to see it.

    Inside an emulation, and under any other torch dispatch mode, every operation is torch's own.
    """
    m = block.state["m"]
    floats = m.dtype == torch.float32 and m.device.type == "cpu"
    return floats and _get_current_dispatch_mode() is None


def renewed(block: Block, place: Place, sigma: float) -> None:
    """The block's next sample, of spread `sigma`, drawn at `place`."""
    _run(block, None, [], (place, place), (sigma, sigma))


def stepped(
    block: Block,
    given: Tensor | None,
    present: list[bool],
    places: tuple[Place, Place],
    sigmas: tuple[float, float],
) -> None:
    """One step of those parameters of a block that have a gradient; the next sample of all.

    Args:
        given: u± of several samples, (2, N), or (N,) where the momentum is shared.
        places, sigmas: of the sample at hand and of the next.
    """
    _run(block, given, present, places, sigmas)


def _run(
    block: Block,
    given: Tensor | None,
    present: list[bool],
    places: tuple[Place, Place],
    sigmas: tuple[float, float],
) -> None:
    start_threads()
    group, state = block.group, block.state
    shared, v = group["momentum"] == "shared", _rows(state["v"])
    g = given if given is not None and shared else block.gradient()[0] if any(present) else None
    own = block.own_row()
    w = torch.empty(v.shape[1]) if own is None else own
    arguments = (
        _switches(group, given is not None and not shared),
        _scalars(group, sigmas),
        _numbers(*places, block.first),
        np.array(block.ranges(present), np.int64).reshape(-1, 2),
        _NONE[0] if g is None else g.detach().float().contiguous().numpy(),
        _rows(state["sample"]) if "sample" in state else _NONE,
        _NONE if given is None or shared else _rows(given),
        _rows(state["m"]),
        v,
        _rows(state["prior"]) if "prior" in state else np.empty((2, 0), _rows(state["m"]).dtype),
        w.numpy(),
    )
    (kernels.step if w.numel() > GRAIN else kernels.step_alone)(*arguments)
    if own is None:
        block.spread(w)
    else:
        increment_version(block.params[0])


def _rows(x: Tensor) -> Array:
    """(2, N) as it is, (N,) as one row."""
    array: Array = x.contiguous().numpy()
    return array if array.ndim == 2 else array[None]


def _switches(group: Group, given: bool) -> tuple[int, ...]:
    """See `kernels.step_alone`."""
    shared = group["momentum"] == "shared"
    return (
        kernels.SHARED if shared else kernels.GIVEN if given else kernels.FROM_SAMPLE,
        kernels.LOG if isinstance(storage(group), LogMedians) else kernels.MEDIAN,
        int(group["update"] == "sign"),
        REGULARIZERS[group["regularizer"]],
        NOISE_LAWS[group["noise"]].variate,
    )


def _scalars(group: Group, sigmas: tuple[float, float]) -> tuple[np.float32, ...]:
    """See `kernels.step_alone`."""
    keep, law = storage(group), NOISE_LAWS[group["noise"]]
    (beta1, beta2), mean = group["betas"], law.mean(group["sigma"])
    scale = law.square(group["sigma"]) if group["regularizer"] == "gaussian" else mean
    ends: tuple[float, ...] = limits(torch.float32)
    if isinstance(keep, LogMedians):
        ends = tuple(map(log, ends))
    row = (
        beta1, 1 - beta1, beta2, 1 - beta2, group["temperature"], group["decay"], scale,
        keep.point(group["floor"] / mean), -group["lr"], *ends, *sigmas, SHORTEST,
    )  # fmt: skip
    return tuple(map(np.float32, row))


def _numbers(old: Place, new: Place, first: int) -> tuple[np.uint64, ...]:
    """See `kernels.step_alone`."""
    return tuple(map(np.uint64, (new.seed, old.stream, new.stream, first // RUN)))
