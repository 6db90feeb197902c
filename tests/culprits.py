"""Runs with one planted fault each, small enough to be blamed in a minute or two.

Each fault is what its name says on a machine that otherwise has no trouble with these models.
"""

from pathlib import Path
from typing import Any

from tapeout.scenarios.data import DataSpec
from tapeout.scenarios.data.digits import DigitsSpec
from tapeout.scenarios.data.text import TextSpec
from tapeout.scenarios.frozen import FrozenColumn
from tapeout.scenarios.hyperparameters import check_optimizer
from tapeout.scenarios.models.gpt import GptSpec
from tapeout.scenarios.models.vit import VitSpec
from tapeout.scenarios.storage import make_folder, write_json
from tapeout.scenarios.study import Run
from tapeout.scenarios.train import TrainSpec
from tapeout.simulator import Chip, Recipe, chip_from_table, load_chip, load_recipe

MODELS: dict[str, tuple[Any, DataSpec, dict[str, Any]]] = {
    "vit": (
        VitSpec(patch=4, width=32, depth=1, heads=2),
        DigitsSpec(),
        {"steps": 24, "batch": 64, "warmup": 2, "probe": 32},
    ),
    "gpt": (
        GptSpec(classes=128, length=16, width=32, depth=1, heads=2, mlp_ratio=2),
        TextSpec(length=16, characters=12000),
        {"steps": 24, "batch": 16, "warmup": 2, "probe": 32},
    ),
}
#: The ingredient that each fault must be found by.
FAULTS = {
    "gradients in e2m1": "gradient",
    "a 6-bit accumulator": "accumulator",
    "float16 overflow in attention": "attention",
    "stalled bfloat16 weights": "stored-weight",
}


def planted(fault: str) -> tuple[Chip, Recipe]:
    """The machine with this fault, and none other that matters."""
    chip = load_chip("nvidia-h100")
    match fault:
        case "gradients in e2m1":
            row = {"format": "float4_e2m1fn", "scaling": "none"}
            return chip, load_recipe("fp8", {"gradient": row})
        case "a 6-bit accumulator":
            table = dict(chip.table)
            # Six bits in all: one of sign, three of exponent, two of fraction.
            unit = {"order": "chain", "accumulator": "e3m2b3"}
            table["matrix_units"] = [
                row | {"dot": unit} if row["a"] == ["bfloat16"] else row
                for row in chip.table["matrix_units"]
            ]
            return chip_from_table(table, "planted"), load_recipe("bf16")
        case "float16 overflow in attention":
            # A loss scale that bfloat16 has room for and float16 has not: gradients become infinite
            # as they enter the products of attention's backward pass.
            scale = {"kind": "static", "initial": 2.0**40, "most": 2.0**40}
            attention = {"format": "float16", "overflow": "infinity"}
            return chip, load_recipe("bf16", {"attention": attention, "loss_scaling": scale})
        case "stalled bfloat16 weights":
            # Nearest-even and no masters: an update below half an ulp of its weight is lost.
            return chip, load_recipe("bf16", {"memory": {"weight": {"format": "bfloat16"}}})
    raise KeyError(fault)


def freeze_run(folder: Path, model: str, fault: str, seed: int = 0) -> Path:
    """A run folder with nothing but its frozen inputs."""
    chip, recipe = planted(fault)
    spec, data, train = MODELS[model]
    rate = 0.0005 if fault.startswith("stalled") else 0.005
    optimizer: Any = check_optimizer({"name": "adamw", "lr": rate}, 1)
    column: Any = FrozenColumn(name="planted", chip=chip.table, recipe=recipe.table)
    run = Run(column, optimizer, seed, spec, data, TrainSpec.model_validate(train))
    path = folder / f"{model}-{fault.replace(' ', '-')}"
    make_folder(path)
    write_json(path / "run.json", run.inputs(chip, recipe))
    return path
