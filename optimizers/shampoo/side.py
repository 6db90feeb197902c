"""One side of one preconditioner: its statistics and its inverse root, as the state keeps them.

A side is a nested dictionary of tensors, {"factor": ..., "root": ...}; matrices with fewer
elements than `min_elements` stay float32 whatever the storage.
"""

import torch
from torch import Tensor

from ..codec import Stored
from .method import Counters, Method, inverse_root
from .statistics import STORAGES, WHOLE, Statistics

Side = dict[str, Stored]


def keeper(order: int, method: Method) -> Statistics:
    """How the statistics of a side of this order are kept."""
    return STORAGES[method.storage] if method.packs(order) else WHOLE


def begin_side(order: int, method: Method, device: torch.device) -> Side:
    """L = ε·I and X = I."""
    root = method.store_root(torch.eye(order, device=device))
    return {"factor": keeper(order, method).begin(order, method, device), "root": root}


def accumulate(side: Side, gram: Tensor, method: Method, counters: Counters) -> Tensor | None:
    """L ← β·L + (1 − β)·gram, stored; returns L before it was stored.

    None, the side as it was and a failure counted, if L is not finite or has no factor.
    """
    renewed = keeper(len(gram), method).renew(side["factor"], gram, method, counters)
    if renewed is None:
        counters["failed_statistics"] += 1
        return None
    side["factor"], fresh = renewed
    return fresh


def renew_root(side: Side, fresh: Tensor | None, method: Method, counters: Counters) -> bool:
    """X ← (L + λmax·ε·I)^(−1/4), stored, from `fresh` or else from what the side keeps.

    False, the root as it was and a failure counted, if the result is not finite.
    """
    order = len(restored_diagonal(side["root"]))
    if fresh is not None:
        root = inverse_root(fresh, method)
    else:
        root = keeper(order, method).root(side["factor"], method)
    if root is None:
        counters["failed_roots"] += 1
        return False
    side["root"] = method.store_root(root)
    return True


def read_side(side: Side, method: Method) -> tuple[Tensor, Tensor]:
    """L and X as they are stored, (n, n) float32 both."""
    order = len(restored_diagonal(side["root"]))
    return keeper(order, method).read(side["factor"], method), method.restore_root(side["root"])


def restored_diagonal(stored: Stored) -> Tensor:
    """The diagonal of a stored root, (n,)."""
    return stored["matrix"].diagonal() if "matrix" in stored else stored["diagonal"]


def side_bits(order: int, method: Method) -> int:
    """Memory of one side after the papers; 64·n² in float32, else twice the square of codes.

    Wang et al. give 2·(4n² + 32n·⌈n/64⌉ + 32n) for 4 bits; the factor without error is smaller,
    as its upper triangle is not stored.
    """
    root = method.square_bits(order) if method.packs(order) else 32 * order * order
    return keeper(order, method).bits(order, method) + root
