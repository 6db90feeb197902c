"""What storing does to the preconditioners of the tasks themselves.

Shampoo in float32 trains a task at the setting its grid chose. Of every side that a packed storage
would pack, L at the end is stored once and X = (L + λmax·ε·I)^(−1/4) taken from what comes back,
by the optimizer's own Newton iteration; NRE and AE are against the root from the eigenvalues of
L in float64 (`..preconditioners` has the same of synthetic matrices).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import acos, degrees
from typing import Any

import torch
from torch import Tensor, nn, optim

from tapeout.optimizers.shampoo.chunks import chunks
from tapeout.optimizers.shampoo.method import Method, inverse_root, ridged_cholesky
from tapeout.optimizers.shampoo.options import method_of
from tapeout.optimizers.shampoo.triangle import restore_lower, store_lower

from .contenders import CONTENDERS, Setting
from .tasks import Task, build, examples
from .training import steps

STORAGES = ("float32", "vq", "cq")


@dataclass(frozen=True)
class Spectrum:
    """A side: its parameter, order, largest eigenvalue, how uneven they are, and the errors.

    Attributes:
        above: share of eigenvalues above λmax·ε, the ridge of the root.
        nre, ae: by storage; AE in degrees.
    """

    parameter: str
    order: int
    largest: float
    above: float
    nre: dict[str, float]
    ae: dict[str, float]


def spectra(task: Task, setting: Setting, seed: int = 0) -> Iterator[Spectrum]:
    """The sides of every parameter after training, left before right."""
    contender, model = CONTENDERS["shampoo float32"], build(task, seed)
    optimizer = contender.build(task, setting, model, seed)
    steps(task, examples(task, None), model, optimizer, seed)
    packed = method_of(optimizer.param_groups[0] | {"storage": "cq"})
    for name, p in model.named_parameters():
        for sides in optimizer.state[p].get("sides", []):
            for side in sides:
                matrix = side["factor"]["matrix"]
                if packed.packs(len(matrix)):
                    yield spectrum(name, matrix, packed)


def spectrum(parameter: str, matrix: Tensor, method: Method) -> Spectrum:
    """The errors of one L, (n, n) float32."""
    values, axes = torch.linalg.eigh(matrix.double())
    ridge = method.eps * values.max()
    exact = (axes * (values.clamp(min=0) + ridge) ** -0.25) @ axes.T
    nre, ae = {}, {}
    for storage in STORAGES:
        root = inverse_root(back(storage, matrix, method), method)
        if root is None:
            nre[storage] = ae[storage] = float("nan")
            continue
        found = root.double()
        nre[storage] = float((exact - found).norm() / exact.norm())
        cosine = float((exact * found).sum() / (exact.norm() * found.norm()))
        ae[storage] = degrees(acos(max(-1.0, min(1.0, cosine))))
    above = float((values > ridge).double().mean())
    return Spectrum(parameter, len(matrix), float(values.max()), above, nre, ae)


def back(storage: str, matrix: Tensor, method: Method) -> Tensor:
    """L as it comes back after being stored once."""
    if storage == "float32":
        return matrix
    if storage == "vq":
        return method.codec.restore_symmetric(method.codec.store_symmetric(matrix))
    factor = ridged_cholesky(matrix, method, {"raised_ridges": 0})
    if factor is None:
        return torch.full_like(matrix, float("nan"))
    stored = restore_lower(store_lower(factor, method.codec), method.codec)
    return stored @ stored.T


@dataclass(frozen=True)
class Packed:
    """How many parameters of a model a packed Shampoo keeps its preconditioners in codes for."""

    parameters: int
    both: int
    one: int
    orders: list[int]


def packed_parameters(model: nn.Module, optimizer: optim.Optimizer) -> Packed:
    """Counts of weights with both sides packed, with one, and the packed orders."""
    group: dict[str, Any] = optimizer.param_groups[0]
    method, both, one, orders = method_of(group | {"storage": "cq"}), 0, 0, set[int]()
    for p in model.parameters():
        for place in chunks(p.shape, group["max_order"]):
            sizes = [side.stop - side.start for side in place]
            kept = [size for size in sizes if method.packs(size)]
            orders.update(kept)
            both += sizes[0] * sizes[1] if len(kept) == 2 else 0
            one += sizes[0] * sizes[1] if len(kept) == 1 else 0
    return Packed(sum(p.numel() for p in model.parameters()), both, one, sorted(orders))
