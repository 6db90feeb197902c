"""Studies that take a second a run, what their folders hold, and a display that looks on."""

from pathlib import Path
from typing import Self

from tapeout.scenarios import Study
from tapeout.scenarios.progress import Progress

STUDY = """
name = "small"
summary = "two ways to compute, each with its own state to carry over"
reference = "scaled"
seeds = {seeds}
tolerance = 0.5

[model]
kind = "mlp"
widths = [8]

[data]
test_fraction = 0.05

[train]
steps = {steps}
batch = 64
evaluate_every = {evaluate_every}
checkpoint_every = {checkpoint_every}
trace_every = 2
probe = 64

[[optimizers]]
name = "lmd"

[[columns]]
name = "scaled"
chip = "nvidia-h100"
recipe = "fp16"
override = {{ loss_scaling = {{ initial = 16777216, backoff = 0.015625 }} }}

[[columns]]
name = "int4"
chip = "generic-int4"
recipe = "int4"

{more}"""
OTHER = {"timing.json"}  # the only file that may differ between identical runs


def write_study(
    folder: Path,
    seeds: int,
    steps: int = 9,
    evaluate_every: int = 3,
    checkpoint_every: int = 4,
    more: str = "",
) -> Path:
    """The scenario small.toml in `folder`: two columns from `seeds` seeds."""
    facts = {"steps": steps, "evaluate_every": evaluate_every, "more": more}
    text = STUDY.format(seeds=list(range(seeds)), checkpoint_every=checkpoint_every, **facts)
    path = folder / "small.toml"
    path.write_text(text)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a run by its path, but for the time it took."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name not in OTHER]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def assert_same_runs(study: Study, other: Study) -> None:
    """Every run of `study` holds the same files as in `other`, to the byte."""
    for mine, its in zip(study.folders, other.folders, strict=True):
        found, expected = contents(mine.path), contents(its.path)
        different = [n for n in expected.keys() | found.keys() if found.get(n) != expected.get(n)]
        assert not different, f"{mine.path.name}: {sorted(different)}"
        assert "result.json" in found


class Watcher:
    """A display that keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.seen: list[Progress] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, at: object) -> None:
        return None

    def note(self, text: str) -> None:
        self.notes.append(text)

    def update(self, progress: Progress) -> None:
        self.seen.append(progress)
