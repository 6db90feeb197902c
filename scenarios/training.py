"""The training loop of one run, on an emulated chip, in stretches that end at checkpoints."""

from collections import Counter
from collections.abc import Callable, Iterator
from math import isfinite, nan
from typing import Any

from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss

from ..simulator import emulate
from ..simulator.tracing import Recorder
from .data import Examples, batch_indices
from .evaluation import evaluate
from .folder import TABLES
from .inside import look_inside
from .measures import gradient_norm
from .own_step import OwnStep
from .schedule import cosine
from .session import Session
from .study import Run

#: Told the steps done and the loss; answers True where the run is to stop after this step.
Report = Callable[[int, float], bool | None]
Rows = dict[str, list[dict[str, Any]]]
Calls = dict[str, dict[str, int]]


class Stopped(Exception):
    """The run was asked to stop; `rows` are those of the stretch that it is in the middle of."""

    def __init__(self, rows: Rows | None = None) -> None:
        super().__init__("stopped")
        self.rows = rows or {}


def train_stretches(session: Session, report: Report, begun: Rows | None = None) -> Iterator[Rows]:
    """Train to the next checkpoint, yield the rows of that stretch, and so on to the end.

    report: called after every step with the number of steps done and the loss; its answer can
    stop the run there.
    begun: the rows of the stretch that a stopped run was in the middle of.

    Raises:
        Stopped: `report` asked for it.
    """
    train, rows = session.run.train, begun or no_rows()
    while not session.ended:
        stop = min(train.steps, *(_next(session.step, n) for n in _pauses(session)))
        train_until(session, stop, rows, report)
        if not session.reason and _due(session, train.evaluate_every):
            rows["evaluations"].append(evaluate(session))
        if session.ended or _due(session, train.checkpoint_every):
            yield rows
            rows = no_rows()
        if session.stopped and not session.ended:
            raise Stopped(rows)


def train_until(
    session: Session, stop: int, rows: Rows, report: Report, recorder: Recorder | None = None
) -> None:
    """Take optimizer steps on the chip until `stop` steps are done or the run has diverged.

    recorder: see `emulate`.
    """
    run, count = session.run, len(session.data.train_targets)
    # Drawn before the emulation starts, which must not depend on what this process has cached.
    batches = [
        batch_indices(run.seed, step, run.train.batch, count) for step in range(session.step, stop)
    ]
    emulation = emulate(
        session.chip,
        session.recipe,
        model=session.model,
        seed=run.seed,
        state=session.emulation,
        sample_every=run.train.trace_every,
        recorder=recorder,
    )
    with emulation as trace:
        for batch in batches:
            row = take_step(session, batch)
            rows["metrics"].append(row)
            with trace.phase.pause():
                look_inside(session, rows)
            session.stopped = bool(report(session.step, row["loss"]))
            if session.reason or session.stopped:
                break
        # A trace numbers steps by those that had ended before, a study by those done.
        rows["trace"] += [{**counts, "step": counts["step"] + 1} for counts in trace.take()]
        # Before the state is copied: how often a run was stopped must not show in what it did.
        session.coverage = _added(session.coverage, trace.coverage())
        session.macs += trace.macs
        session.memory = {
            row["role"]: {key: row[key] for key in ("bytes", "float32_bytes")}
            for row in trace.memory()
        }
        session.emulation = trace.state_dict()


def take_step(session: Session, batch: Tensor) -> dict[str, Any]:
    """One batch forward and backward and one optimizer step; the row of the metrics table.

    `batch` holds the indices of its training examples. A step whose loss or gradient is not finite
    ends the run: it is recorded, and changes no weight. Under loss scaling such a gradient only
    skips the step, until the scale can fall no further.
    """
    data, optimizer, rate = session.data, session.optimizer, set_rates(session)
    if session.own_step is not None:
        return take_own_step(session, session.own_step, batch, rate)
    optimizer.zero_grad(set_to_none=True)
    loss = loss_of(data, session.model(data.train_inputs[batch]), data.train_targets[batch])
    value, norm = loss.item(), nan
    session.step += 1
    session.reason = session.watch.loss_verdict(value)
    if isfinite(value):
        loss.backward()  # type: ignore[no-untyped-call]
        norm = gradient_norm(session.model)
        if not session.skips(norm):
            session.reason = session.reason or session.watch.gradient_verdict(norm)
        if isfinite(norm) or not session.reason:
            optimizer.step()
    return {"step": session.step, "loss": value, "lr": rate, "grad_norm": norm}


def take_own_step(session: Session, own: OwnStep, batch: Tensor, rate: float) -> dict[str, Any]:
    """One step by the scenario's own function; the row of the metrics table.

    Loss and gradients are looked at when it is done: those that are not finite end the run, but
    may have changed weights. Where it leaves no gradients behind, their norm is NaN, and no fault.
    """
    value, norm = own.take(session.step, batch), nan
    session.step += 1
    session.reason = session.watch.loss_verdict(value)
    if any(p.grad is not None for p in session.model.parameters()):
        norm = gradient_norm(session.model)
        if not session.skips(norm):
            session.reason = session.reason or session.watch.gradient_verdict(norm)
    return {"step": session.step, "loss": value, "lr": rate, "grad_norm": norm}


def set_rates(session: Session) -> float:
    """Give every group of the optimizer its rate for the step to come; the first one's."""
    factor = learning_rate_factor(session.run, session.step)
    for group, base in zip(session.optimizer.param_groups, session.base_rates, strict=True):
        group["lr"] = base * factor
    return session.base_rates[0] * factor


def loss_of(data: Examples, scores: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy in nats over all rows of scores, or the mean squared error."""
    if data.objective == "regression":
        return mse_loss(scores, targets)
    return cross_entropy(scores.flatten(0, -2), targets.flatten())


def learning_rate_factor(run: Run, step: int) -> float:
    """The share of the base learning rate that step `step`, counted from 0, uses."""
    train = run.train
    if train.schedule == "cosine":
        return cosine(step, train.steps, train.warmup)
    return min(1.0, (step + 1) / (train.warmup + 1))


def _added(known: Calls, found: Calls) -> Calls:
    """The calls of both stretches, by how an operation was carried out."""
    kinds = sorted(known.keys() | found.keys())
    both = {kind: Counter(known.get(kind, {})) + Counter(found.get(kind, {})) for kind in kinds}
    return {kind: dict(sorted(calls.items())) for kind, calls in both.items()}


def no_rows() -> Rows:
    """No row in any table yet."""
    return {table: [] for table in TABLES}


def _pauses(session: Session) -> tuple[int, int]:
    return session.run.train.evaluate_every, session.run.train.checkpoint_every


def _next(step: int, every: int) -> int:
    """The first multiple of `every` above `step`."""
    return (step // every + 1) * every


def _due(session: Session, every: int) -> bool:
    """Whether something done every `every` steps, and at the end, is due now."""
    return session.step % every == 0 or session.step >= session.run.train.steps
