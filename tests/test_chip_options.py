"""What a chip or a recipe may choose and the library's files do not: each has its effect."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from tapeout.formats import quantize
from tapeout.simulator import Chip, emulate, load_chip, load_recipe

LIBRARY = Path(__file__).parent.parent / "simulator" / "chips"


def altered(folder: Path, name: str, old: str, new: str) -> Chip:
    text = (LIBRARY / f"{name}.toml").read_text()
    assert text.count(old) == 1
    path = folder / f"{name}.toml"
    path.write_text(text.replace(old, new))
    return load_chip(path)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_sequential_reduction_adds_in_ascending_order(tmp_path: Path) -> None:
    chip = altered(tmp_path, "ieee-float32", 'reduction = "tree"', 'reduction = "sequential"')
    x = random(5, 100) * 1e3
    with emulate(chip, load_recipe("fp32")):
        rows, columns = x.sum(1), x.sum(0)
    with emulate(load_chip("ieee-float32"), load_recipe("fp32")):
        tree = x.sum(1)
    for total, values in ((rows, x.numpy()), (columns, x.numpy().T)):
        assert total.tolist() == [float(np.cumsum(row, dtype=np.float32)[-1]) for row in values]
    assert not torch.equal(rows, tree)


def test_bias_in_the_accumulator_is_its_c(tmp_path: Path) -> None:
    text = 'accumulator = "float32"\nevidence = [\n  { of = ["format"'
    chip = altered(tmp_path, "nvidia-a100", text, 'bias = "accumulator"\n' + text)
    layer, x = nn.Linear(24, 9), random(7, 24)
    recipe = load_recipe("bf16", {"output": {"fprop": "float32"}})
    with emulate(chip, recipe, model=layer):
        inside = layer(x).detach().numpy()
    with emulate(load_chip("nvidia-a100"), recipe, model=layer):
        after = layer(x).detach().numpy()
    a = quantize(x.numpy(), "bfloat16")
    w = quantize(np.ascontiguousarray(layer.weight.detach().numpy().T), "bfloat16")
    bias = np.broadcast_to(layer.bias.detach().numpy(), (7, 9))
    unit = chip.matrix_unit("bfloat16", "bfloat16")
    assert np.array_equal(inside, unit.matmul(a, w, bias))
    assert np.array_equal(after, unit.matmul(a, w) + bias)
    assert not np.array_equal(inside, after)


def test_exempt_modules_stay_in_float32_forward_and_backward() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    recipe = load_recipe("fp8", {"exempt_modules": ["1"]})
    with emulate(load_chip("nvidia-h100"), recipe, model=model) as trace:
        model(random(4, 8)).square().sum().backward()
    rows = [row for row in trace.take() if row["op"] == "matmul"]
    formats = {row["module"]: set() for row in rows}  # type: dict[str, set[str]]
    for row in rows:
        formats[row["module"]].add(row["format"])
    assert formats == {"0": {"float8_e4m3fn", "float8_e5m2", "e8m13"}, "1": {"float32"}}


def test_fp8_trains_on_the_stochastic_design_point() -> None:
    """Every product of the recipe fp8, attention's in bfloat16 too, has its unit on the chip."""
    layer = nn.Linear(16, 16)
    x = random(8, 16)
    with emulate(load_chip("generic-fp8-sr"), load_recipe("fp8"), model=layer, seed=1) as trace:
        h = layer(x)
        (h @ h.mT).square().mean().backward()
    formats = {(row["operand"], row["format"]) for row in trace.take()}
    assert ("weight", "float8_e4m3fn") in formats and ("activation", "bfloat16") in formats
    assert ("output", "bfloat16") in formats and layer.weight.grad is not None
    assert bool(layer.weight.grad.isfinite().all())
