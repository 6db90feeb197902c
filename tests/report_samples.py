"""Studies as a scenario writes them, of known truth: sweeps, learning rates, divergences.

`Truth` says what a pair of optimizer and column does; `write_sample` draws runs from it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tapeout.simulator import Chip, load_chip

STEPS, TRACED = 200, 20


@dataclass(frozen=True)
class Truth:
    """How a pair behaves: its true gap, how its runs scatter, and how they fail.

    gap: true mean gap of the final accuracy; spread: standard deviation of a seed's own part.
    diverges: chance that a run diverges; limit: learning-rate factor above which all do.
    spikes: expected loss spikes a run; drift: what the trace does before a divergence.
    """

    gap: float = 0.0
    spread: float = 0.003
    diverges: float = 0.0
    limit: float = 64.0
    spikes: float = 0.0
    drift: bool = True
    noise: float = 1e-3
    underflow: float = 0.01
    stalled: float = 0.02


@dataclass(frozen=True)
class Sample:
    """A study to be written: columns with their truth, the same for every optimizer."""

    columns: Mapping[str, tuple[dict[str, Any], Truth]]
    optimizers: Sequence[str] = ("adamw", "lmd")
    seeds: int = 5
    lr_factors: Sequence[float] = (1.0,)
    facts: Mapping[str, Any] = field(default_factory=dict)


REFERENCE = {"chip": "ieee-float32", "recipe": "fp32", "override": {}}
FORMATS = {"fp32": "float32", "fp8": "float8_e4m3fn", "int4": "int4", "bf16": "bfloat16"}


def sweep_sample(
    seeds: int = 5,
    lr_factors: Sequence[float] = (0.5, 1.0, 2.0, 4.0),
    orders: Sequence[str] = ("chain", "tree", "exact"),
    optimizers: Sequence[str] = ("adamw", "lmd"),
) -> Sample:
    """Rounding by order by format on one chip, beside two other chips: all verdicts occur."""
    columns: dict[str, tuple[dict[str, Any], Truth]] = {
        "ieee-fp32": (REFERENCE, Truth(limit=4.0)),
        "h100-fp8": (
            {"chip": "nvidia-h100", "recipe": "fp8", "override": {}},
            Truth(gap=-0.001, spread=0.002, limit=2.0, noise=3e-3),
        ),
    }
    worse = {"nearest_even": 0.03, "stochastic": 0.004, "toward_zero": 0.09}
    for form in ("e4m3", "int4"):
        for rounding, loss in worse.items():
            for order in orders:
                scale = {"chain": 1.3, "tree": 1.0, "exact": 0.8}[order]
                lost = loss * scale * (1.0 if form == "int4" else 0.15)
                axes = {"format": form, "rounding": rounding, "order": order}
                row = {
                    "chip": "generic-int4",
                    "recipe": "int4",
                    "override": {"rounding": rounding},
                    "axes": axes,
                }
                rate = 0.7 if lost > 0.08 else 0.12 if lost > 0.03 else 0.0
                truth = Truth(
                    gap=-lost,
                    spread=0.002 + lost / 8,
                    diverges=rate,
                    limit=4.0 if lost < 0.01 else 1.0,
                    spikes=0.8 if rate else 0.0,
                    noise=lost / 4,
                    underflow=min(0.4, lost * 6),
                    stalled=min(0.5, lost * 5),
                )
                columns[f"{form}-{rounding}-{order}"] = (row, truth)
    thresholds = {
        "quality_gap": 0.01,
        "diverged_share": 0.5,
        "loss_spikes": 1.0,
        "optimizer_state_ratio": 1.0,
        "lr_margin": 0.5,
    }
    facts = {"thresholds": thresholds}
    return Sample(columns, optimizers, seeds, lr_factors, facts)


def write_sample(root: Path, sample: Sample, seed: int = 0) -> Path:
    """The study folder of a sample, every file with its digest as the runner writes it."""
    rng = np.random.default_rng(seed)
    root.mkdir(parents=True)
    plans = [
        (optimizer, column, number, factor)
        for column in sample.columns
        for optimizer in sample.optimizers
        for number in range(sample.seeds)
        for factor in sample.lr_factors
    ]
    entries = []
    levels = rng.normal(0.965, 0.004, (len(sample.optimizers), sample.seeds))
    for optimizer, column, number, factor in plans:
        folder = f"{column}--{optimizer}--s{number}-x{factor:g}--0a1b2c3d"
        level = levels[list(sample.optimizers).index(optimizer), number]
        row, truth = sample.columns[column]
        write_sample_run(root / folder, (optimizer, column, number, factor), row, truth, level, rng)
        entries.append(
            {
                "folder": folder,
                "column": column,
                "optimizer": optimizer,
                "seed": number,
                "lr_factor": factor,
            }
        )
    study = {
        "schema": 1,
        "name": "sweep-sample",
        "summary": "Synthetic runs of known truth: a Vision Transformer on handwritten digits",
        "reference": next(iter(sample.columns)),
        "metric": "test_accuracy",
        "tolerance": 0.01,
        "columns": [{"name": name, **row} for name, (row, _) in sample.columns.items()],
        "optimizers": [{"name": name, "lr": 0.003} for name in sample.optimizers],
        "seeds": list(range(sample.seeds)),
        "runs": entries,
        "command": "tapeout run sweep-sample.toml",
        "versions": {"tapeout": "0.1.0", "python": "3.11.9", "torch": "2.13.0"},
        "cpu": "Example CPU",
        "git": "0123456789ab",
        "scenario_toml": 'name = "sweep-sample"\ntolerance = 0.01\n',
    }
    (root / "study.json").write_text(json.dumps(study | dict(sample.facts)))
    return root


def write_sample_run(
    folder: Path,
    plan: tuple[str, str, int, float],
    row: Mapping[str, Any],
    truth: Truth,
    level: float,
    rng: np.random.Generator,
) -> None:
    """One run: losses, evaluations, trace, result; it diverges by chance or by its rate."""
    optimizer, column, number, factor = plan
    lost = factor > truth.limit or rng.random() < truth.diverges
    end = int(rng.integers(STEPS // 3, STEPS - 20)) if lost else STEPS
    final = level + truth.gap + rng.normal(0, truth.spread) - 0.004 * np.log2(factor) ** 2
    losses = draw_losses(end, lost, truth, rng)
    norms = np.exp(0.4 * np.log(losses) + 0.1 * rng.normal(size=end)) * 3
    if lost:
        norms[end - 22 : end - 12] *= np.geomspace(2, 40, 10)
    steps = np.arange(1, end + 1)
    rates = 0.003 * factor * np.cos(steps / STEPS * np.pi / 2)
    tables: dict[str, dict[str, Any]] = {
        "metrics": {"step": steps, "loss": losses, "lr": rates, "grad_norm": norms},
        "evaluations": evaluations(end, final, losses),
        "trace": traces(end, lost, row["recipe"], row.get("axes", {}), truth, rng),
    }
    files = {}
    for kind, table in tables.items():
        path = folder / kind / f"step-{end:06d}.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(pa.table(table), path, write_page_checksum=True)
        files[f"{kind}/{path.name}"] = sha256(path.read_bytes()).hexdigest()
    chip = find_chip(row["chip"])
    inputs = {
        "schema": 1,
        "column": column,
        "seed": number,
        "optimizer": {"name": optimizer},
        "chip": chip.table,
        "assumed": chip.assumptions()[:3],
    }
    (folder / "run.json").write_text(json.dumps(inputs))
    seconds = end * (0.05 if row["recipe"] == "fp32" else 0.4) * rng.uniform(0.95, 1.05)
    (folder / "timing.json").write_text(json.dumps({"seconds": seconds, "steps": end}))
    size = {"adamw": 205_000, "lmd": 102_500}.get(optimizer, 61_234)
    bits = {"fp32": 32, "fp8": 8}.get(row["recipe"], 4)
    result = {
        "schema": 1,
        "status": "diverged" if lost else "finished",
        "step": end,
        "reason": "the loss is nan" if lost else "",
        "final": {"test_accuracy": None if lost else min(final, 1.0)},
        "optimizer_state_bytes": size,
        "memory": {
            "weight": {"bytes": 102_500 * bits // 32, "float32_bytes": 102_500},
            "activation": {"bytes": 400_000 * bits // 32, "float32_bytes": 400_000},
            "optimizer": {"bytes": size, "float32_bytes": 205_000},
        },
        "gemm_macs": 1_000_000 * end,
        "coverage": {"bit_exact": {"aten.mm": 12 * end}, "rounded_once": {"aten.exp": end}},
        "files": files,
    }
    (folder / "result.json").write_text(json.dumps(result))


@cache
def find_chip(name: str) -> Chip:
    """The chip, read once."""
    return load_chip(name)


def draw_losses(end: int, lost: bool, truth: Truth, rng: np.random.Generator) -> np.ndarray:
    """A loss that falls with the noise of batches; spikes, and a blow-up where the run is lost."""
    steps = np.arange(1, end + 1)
    losses = (0.05 + 2.25 * np.exp(-steps / 30)) * np.exp(0.08 * rng.normal(size=end))
    for start in rng.integers(60, max(61, end - 30), rng.poisson(truth.spikes)):
        losses[start : start + 6] *= np.geomspace(8, 1.2, len(losses[start : start + 6]))
    if lost:
        losses[-12:] *= np.geomspace(2, 1e4, 12)
        losses[-1] = np.nan
    return losses


def evaluations(end: int, final: float, losses: np.ndarray) -> dict[str, Any]:
    """Test loss and accuracy every 20 steps."""
    steps = np.arange(20, end + 1, 20)
    accuracy = np.minimum(final * (1 - 0.9 * np.exp(-steps / 35)), 1.0)
    return {"step": steps, "test_loss": losses[steps - 1], "test_accuracy": accuracy}


def traces(
    end: int,
    lost: bool,
    recipe: str,
    axes: Mapping[str, str],
    truth: Truth,
    rng: np.random.Generator,
) -> dict[str, list[Any]]:
    """Counters of three modules every 20 steps; shares drift up before a divergence."""
    form = {"e4m3": "float8_e4m3fn"}.get(axes.get("format", ""), FORMATS[recipe])
    exact = form == "float32"
    table: dict[str, list[Any]] = {}
    for step in range(1, end + 1, TRACED):
        ahead = max(0.0, 1 - (end - step) / 60) if lost and truth.drift else 0.0
        for module in ("embed", "blocks.0.attention", "blocks.0.mlp.up"):
            for operand in ("weight", "activation", "gradient", "output", "update"):
                under = 0.0 if exact else truth.underflow * {"gradient": 1.0}.get(operand, 0.3)
                under = min(0.9, under + 0.3 * ahead * (operand == "gradient"))
                noise = 0.0 if exact else truth.noise * (1 + 8 * ahead) * rng.uniform(0.9, 1.1)
                update, output = operand == "update", operand == "output"
                counts = {
                    "step": step,
                    "module": module,
                    "op": "step" if update else "matmul",
                    "gemm": "optimizer"
                    if update
                    else "dgrad"
                    if operand == "gradient"
                    else "fprop",
                    "operand": operand,
                    "format": "float32" if update or output else form,
                    "values": 4096,
                    "underflow": 0 if update or output else int(4096 * under),
                    "saturated": 0 if update or output else int(4096 * 0.1 * noise),
                    "overflow": 0,
                    "nan": 0,
                    "signal": 0.0 if update else 1000.0,
                    "noise": 0.0 if update else 1000.0 * noise,
                    "stalled": int(4096 * truth.stalled * (1 + ahead)) if update else 0,
                }
                for key, value in counts.items():
                    table.setdefault(key, []).append(value)
    return table
