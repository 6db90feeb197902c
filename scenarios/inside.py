"""What a run looks like inside: weights and preconditioners, read as an instrument would.

Nothing here is the chip's work: it is computed natively, in float64, while the emulation pauses,
draws no random bits and changes no state.
"""

from collections.abc import Iterator
from math import ceil, degrees
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtr
from torch import nn
from torch.optim import Optimizer

from ..optimizers import Shampoo
from .session import Session

#: Bins of the histogram in one octave of |w|.
BINS = 4

Values = NDArray[np.float64]


def look_inside(session: Session, rows: dict[str, list[dict[str, Any]]]) -> None:
    """Add the rows of the step that has just ended, if it is one to be looked at.

    Weights at the steps that the trace counts; preconditioners where their roots were renewed,
    at most once in `trace_every` steps. Call it while the emulation pauses.
    """
    every = session.run.train.trace_every
    if (session.step - 1) % every == 0:
        rows["weights"] += [{"step": session.step, **row} for row in weight_rows(session.model)]
    found = preconditioner_rows(session.optimizer, session.model, session.step, every)
    rows["preconditioners"] += [{"step": session.step, **row} for row in found]


def weight_rows(model: nn.Module) -> Iterator[dict[str, Any]]:
    """For each parameter, how the magnitudes of its weights are distributed.

    mean_ln, std_ln: of ln |w| over the nonzero finite w. ks: the largest distance of their
    distribution to the normal one with that mean and deviation (Kolmogorov, Smirnov); 0 for
    log-normal weights. bins: floor(4 log2 |w|), ascending, with their counts.
    """
    for name, parameter in model.named_parameters():
        yield {"parameter": name, **describe_weights(parameter.detach().numpy(force=True))}


def describe_weights(weights: NDArray[Any]) -> dict[str, Any]:
    """The row of one parameter but for its name; see `weight_rows`."""
    sizes = np.abs(weights.astype(np.float64).reshape(-1))
    finite = np.isfinite(sizes)
    logs: Values = np.sort(np.log(sizes[finite & (sizes > 0)]))
    bins, counts = np.unique(np.floor(logs * (BINS / np.log(2))), return_counts=True)
    mean, std = (float(logs.mean()), float(logs.std())) if len(logs) else (None, None)
    return {
        "values": int(sizes.size),
        "zeros": int((sizes == 0).sum()),
        "nonfinite": int((~finite).sum()),
        "mean_ln": mean,
        "std_ln": std,
        "ks": lognormal_distance(logs) if std else None,
        "bins": bins.astype(np.int64).tolist(),
        "counts": counts.tolist(),
    }


def lognormal_distance(logs: Values) -> float:
    """sup |F_n(x) − Φ((x − mean)/std)| of ascending ln |w|, (n,), which are not all the same."""
    fitted = ndtr((logs - logs.mean()) / logs.std())
    steps = np.arange(len(logs) + 1) / len(logs)
    return float(max(np.max(steps[1:] - fitted), np.max(fitted - steps[:-1])))


def preconditioner_rows(
    optimizer: Optimizer, model: nn.Module, step: int, every: int
) -> Iterator[dict[str, Any]]:
    """For each side of Shampoo's preconditioners, how far its stored root is from the exact one.

    Only at steps that renewed the root, so that root and statistics are of one time, and of those
    every ceil(every / T₂)-th.
    """
    if not isinstance(optimizer, Shampoo):
        return
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for group in optimizer.param_groups:
        renewed, left = divmod(step, group["roots_every"])
        if left or (renewed - 1) % ceil(every / group["roots_every"]):
            continue
        for p in group["params"]:
            for side, statistics, root in optimizer.preconditioners(p):
                nre, angle = root_errors(_wide(statistics), _wide(root), group["eps"])
                yield {"parameter": names.get(id(p), ""), "side": side, "order": len(root),
                       "nre": nre, "ae_degrees": angle}  # fmt: skip


def root_errors(statistics: Values, root: Values, eps: float) -> tuple[float | None, float | None]:
    """(NRE, AE in degrees) of X against E = (L + λmax ε I)^(−1/4); None where they do not exist.

        NRE = ‖X − E‖F / ‖E‖F        AE = arccos(⟨X, E⟩ / (‖X‖F ‖E‖F))

    L and X (n, n) as stored; E from the eigenvalues of L in float64, negative ones taken as 0.

    Source: Wang, Zhou, Li, Huang, arXiv 2405.18144, section 5 (there against the root of
    statistics that were never quantised, which a run does not keep).
    """
    if not (np.isfinite(statistics).all() and np.isfinite(root).all()):
        return None, None
    values, vectors = np.linalg.eigh(statistics)
    values = np.maximum(values, 0.0)
    if not values[-1] > 0:
        return None, None
    exact = (vectors * (values + eps * values[-1]) ** -0.25) @ vectors.T
    size, other = np.linalg.norm(exact), np.linalg.norm(root)
    cosine = float(np.vdot(exact, root) / (size * other)) if other > 0 else 0.0
    nre = float(np.linalg.norm(root - exact) / size)
    return nre, degrees(float(np.arccos(np.clip(cosine, -1.0, 1.0))))


def _wide(x: torch.Tensor) -> Values:
    values: Values = x.detach().numpy(force=True).astype(np.float64)
    return values
