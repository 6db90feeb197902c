"""Two runs side by side: the first operation whose result differs, and by how much."""

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from ..formats.errors import InputError
from ..simulator.tracing import Operation, Recorder
from .checkpoint import load_checkpoint
from .environment import versions
from .folder import RunFolder
from .frozen import read_inputs, thaw
from .session import Session
from .study import Run
from .training import no_rows, train_until

#: Of run.json: what may differ between two runs, in the order in which it is told.
FACTS = ("model", "data", "train", "optimizer", "lr_factor", "seed", "chip", "recipe", "versions")
Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Parting:
    """The first operation in which two runs part.

    Attributes:
        step: counted from 1.
        part, module, op, gemm: as in `simulator.tracing.Operation`.
        same_operands: whether what went in was still the same, to the bit. If not, something that
            is no operation made it differ: what the memory stores, the seed, the data.
        same_operation: whether both ran the same one; if not, nothing is compared.
        values, differing: of its result, and how many of them are other bits.
        largest: the largest absolute difference; None where it is not finite.
        relative: ‖a − b‖ / ‖a‖.
    """

    step: int
    part: str
    module: str
    op: str
    gemm: str
    same_operands: bool
    same_operation: bool
    values: int = 0
    differing: int = 0
    largest: float | None = None
    relative: float | None = None


def differing_inputs(a: Path, b: Path) -> list[str]:
    """The frozen inputs in which two runs differ, a table one level down: `chip.vector_unit`."""
    left, right = read_inputs(a), read_inputs(b)
    found: list[str] = []
    for key in FACTS:
        one, other = left.get(key), right.get(key)
        if one == other:
            continue
        if isinstance(one, dict) and isinstance(other, dict):
            keys = dict.fromkeys([*one, *other])
            found += [f"{key}.{name}" for name in keys if one.get(name) != other.get(name)]
        else:
            found.append(key)
    return found


def find_parting(
    a: Path, b: Path, step: int, report: Report = lambda done, of: None
) -> Parting | None:
    """Train both runs again to `step`, and find the first operation whose result differs.

    Looked at are this step and the one before, whose update the metrics do not show. Both start
    from their last common checkpoint below, or from the beginning.

    report: called with steps done, of how many.

    Raises:
        InputError: a run that cannot be rebuilt, or one that does not reach the step.
    """
    runs, first = (thaw(a), thaw(b)), max(step - 1, 1)
    start = _common_checkpoint((a, b), first - 1)
    progress = _Progress(report, 3 * (step - start))
    recorders = [Recorder() for _ in range(2)]
    marks = _record(runs[0], a, start, first, step, recorders[0], progress)
    recorders[1] = Recorder(expected=recorders[0].operations)
    _record(runs[1], b, start, first, step, recorders[1], progress)
    number, other = recorders[1].wanted, recorders[1].kept
    if number < 0 or other is None:
        return None
    one, two = (_at(recorder.operations, number) for recorder in recorders)
    at = sum(mark <= number for mark in marks) + first
    shown = two if one is None else one
    assert shown is not None
    alike = one is not None and two is not None and one.what == two.what
    same = one is not None and two is not None and one.operands == two.operands
    gemm = shown.gemm or (two.gemm if two else "")
    found = Parting(at, shown.part, shown.module, shown.op, gemm, same, alike)
    if not alike:
        return found
    again = Recorder(wanted=number)
    _record(runs[0], a, start, first, step, again, progress)
    return _measured(found, again.kept, other)


class _Progress:
    def __init__(self, report: Report, total: int) -> None:
        self.done, self.total, self.report = 0, total, report

    def step(self, step: int, loss: float) -> None:
        self.done += 1
        self.report(self.done, self.total)


def _record(
    run: Run, folder: Path, start: int, first: int, last: int, recorder: Recorder,
    progress: _Progress,
) -> list[int]:  # fmt: skip
    """Train to step `last`, recording from step `first` on; operations done before each step."""
    session = Session(run)
    if start:
        session.restore(_state(folder, start))
    rows = no_rows()
    train_until(session, first - 1, rows, progress.step)
    marks = []
    for step in range(first, last + 1):
        if session.reason:
            raise InputError(f"{folder}: ends at step {session.step}, {session.reason}")
        train_until(session, step, rows, progress.step, recorder)
        marks.append(len(recorder.operations))
    return marks


def _common_checkpoint(folders: tuple[Path, Path], most: int) -> int:
    """The last step up to `most` of which both runs have a checkpoint by this version; 0: none."""
    shared = _held_steps(folders[0]) & _held_steps(folders[1])
    return max((step for step in shared if step <= most), default=0)


def _held_steps(folder: Path) -> set[int]:
    """The steps whose checkpoint this version of Tapeout goes on from with the same bits."""
    if read_inputs(folder).get("versions") != versions():
        return set()
    return set(RunFolder(folder).checkpoints())


def _state(folder: Path, step: int) -> dict[str, Any]:
    """The session's state after `step` steps."""
    state: dict[str, Any] = load_checkpoint(RunFolder(folder).checkpoint(step))["session"]
    return state


def _measured(found: Parting, a: Any, b: Any) -> Parting:
    """The size of the difference between two results, flat float64."""
    if a is None or a.shape != b.shape:
        return found
    same = (a == b) | (a.isnan() & b.isnan())
    difference, norm = (a - b).abs(), float(a.norm())
    largest, relative = float(difference.max()) if len(a) else 0.0, None
    if norm > 0 and isfinite(norm) and isfinite(largest):
        relative = float(difference.norm()) / norm
    return Parting(
        found.step, found.part, found.module, found.op, found.gemm, found.same_operands,
        found.same_operation, len(a), int((~same).sum()), largest if isfinite(largest) else None,
        relative,
    )  # fmt: skip


def _at(operations: list[Operation], number: int) -> Operation | None:
    return operations[number] if number < len(operations) else None
