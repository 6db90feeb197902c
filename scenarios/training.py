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
from .schedule import cosine
from .session import Session
from .study import Run

Report = Callable[[int, float], None]
Rows = dict[str, list[dict[str, Any]]]
Calls = dict[str, dict[str, int]]


def train_stretches(session: Session, report: Report) -> Iterator[Rows]:
    """Train to the next checkpoint, yield the rows of that stretch, and so on to the end.

    report: called after every step with the number of steps done and the loss.
    """
    train, rows = session.run.train, no_rows()
    while not session.ended:
        stop = min(train.steps, *(_next(session.step, n) for n in _pauses(session)))
        train_until(session, stop, rows, report)
        if not session.reason and _due(session, train.evaluate_every):
            rows["evaluations"].append(evaluate(session))
        if session.ended or _due(session, train.checkpoint_every):
            yield rows
            rows = no_rows()


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
            report(session.step, row["loss"])
            if session.reason:
                break
        # A trace numbers steps by those that had ended before, a study by those done.
        rows["trace"] += [{**counts, "step": counts["step"] + 1} for counts in trace.take()]
        session.emulation = trace.state_dict()
        session.coverage = _added(session.coverage, trace.coverage())
        session.macs += trace.macs
        session.memory = {
            row["role"]: {key: row[key] for key in ("bytes", "float32_bytes")}
            for row in trace.memory()
        }


def take_step(session: Session, batch: Tensor) -> dict[str, Any]:
    """One batch forward and backward and one optimizer step; the row of the metrics table.

    `batch` holds the indices of its training examples. A step whose loss or gradient is not finite
    ends the run: it is recorded, and changes no weight. Under loss scaling such a gradient only
    skips the step, until the scale can fall no further.
    """
    run, optimizer = session.run, session.optimizer
    factor = learning_rate_factor(run, session.step)
    for group, base in zip(optimizer.param_groups, session.base_rates, strict=True):
        group["lr"] = base * factor
    data = session.data
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
    rate = session.base_rates[0] * factor
    return {"step": session.step, "loss": value, "lr": rate, "grad_norm": norm}


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
