"""The recipe engine: what may differ by product, what is exempt, what stands in, what is kept."""

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from tapeout.formats import InputError, Stochastic, quantize
from tapeout.simulator import emulate, list_recipes, load_chip, load_recipe
from tapeout.simulator.matrix import find_path, list_assumptions, prepare
from tapeout.simulator.matrix.exemption import list_layers

CHIPS = ("nvidia-h100", "nvidia-b200", "amd-mi300x", "generic-fp8-sr", "generic-int4")
H100 = load_chip("nvidia-h100")


def random(*shape: int, seed: int = 0) -> Any:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def linear(*widths: int) -> Any:
    """Layers without biases, the same weights every time."""
    model: Any = nn.Sequential(*(nn.Linear(a, b, bias=False) for a, b in pairwise(widths)))
    with torch.no_grad():
        for i, layer in enumerate(model):
            layer.weight.copy_(random(*layer.weight.shape, seed=i) * layer.in_features**-0.5)
    return model


def formats(trace: Any) -> dict[tuple[str, str, str], str]:
    """Formats of operands by module, product and operand."""
    return {(r["module"], r["gemm"], r["operand"]): r["format"] for r in trace.take()}


@pytest.mark.parametrize("name", list_recipes())
@pytest.mark.parametrize("chip", CHIPS)
def test_every_recipe_runs_on_the_five_chips(chip: str, name: str) -> None:
    """Forward, attention and backward, near the float32 result as far as the formats reach."""
    model, x = linear(32, 48, 16), random(20, 32)
    over: dict[str, Any] = {"exempt_last": 0}
    if name == "fp16":
        over["loss_scaling"] = {"initial": 1}  # the first scale may well overflow
    recipe = load_recipe(name, over)
    with emulate(load_chip(chip), recipe, model=model, seed=1) as trace:
        h = model(x)
        (h @ h.mT).square().mean().backward()
    assert bool(model[0].weight.grad.isfinite().all())
    plain = linear(32, 48, 16)(x)
    error = float((h - plain).detach().norm() / plain.detach().norm())
    assert error < (0.5 if "4" in name else 0.2) and (error > 0) == (name != "fp32")
    told = [t for t in trace.assumptions() if "has no unit" in t or "in software" in t]
    told = [t for t in told if "store" not in t]  # what memory rounds
    assert set(told) <= set(list_assumptions(load_chip(chip), recipe))


@pytest.mark.parametrize(
    ("chip", "recipe", "words"),
    [
        ("nvidia-h100", "mxfp4", "dequantised, multiplied as bfloat16 x bfloat16"),
        ("nvidia-h100", "nvfp4", "dequantised, multiplied as float16 x float16"),
        ("generic-int4", "fp8", "float8_e4m3fn x float8_e4m3fn: multiplied as float16 x float16"),
        ("generic-fp8-sr", "int4", "int4 x int4: multiplied as int8 x int8 (dot)"),
        ("amd-mi300x", "fp8", "quantised and multiplied as float8_e4m3fnuz x float8_e5m2fnuz"),
        ("nvidia-v100", "bf16", "bfloat16 x bfloat16: multiplied as float32 x float32"),
    ],
)
def test_what_stands_in_for_a_unit_is_told_and_can_be_refused(
    chip: str, recipe: str, words: str
) -> None:
    told = list_assumptions(load_chip(chip), load_recipe(recipe))
    assert any(words in sentence and f"{chip} has no unit for" in sentence for sentence in told)
    with pytest.raises(InputError, match="no matrix unit for"):
        list_assumptions(load_chip(chip), load_recipe(recipe, {"substitute": False}))


def test_a_scale_that_no_unit_format_holds_is_told_to_be_rounded() -> None:
    """float32 scales without promotion: e4m3 times float32 in bfloat16."""
    over = {"gemm": {g: {"promote_every": None} for g in ("fprop", "dgrad", "wgrad")}}
    recipe = load_recipe("deepseek-v3", over)
    told = list_assumptions(H100, recipe)
    assert any("dequantised and rounded once to bfloat16 x bfloat16" in t for t in told)
    layer, x = linear(256, 8)[0], random(4, 256)
    with emulate(H100, load_recipe("deepseek-v3", over | {"exempt_last": 0}), model=layer):
        out = layer(x)
    a, w = (
        quantize(prepare(v[None], recipe.operand(role)).dequantised()[0], "bfloat16")
        for v, role in ((x, "activation"), (layer.weight, "weight"))
    )
    sums = H100.matrix_unit("bfloat16", "bfloat16").matmul(a, np.ascontiguousarray(w.T))
    assert np.array_equal(out.detach().numpy(), quantize(sums, "bfloat16"))


def test_stochastic_gradients_go_to_software_only_where_the_unit_has_none() -> None:
    recipe = load_recipe("nvfp4")
    assert recipe.rounding("gradient", H100, "dgrad") == Stochastic(16)
    assert recipe.rounding("gradient", load_chip("nvidia-b200"), "dgrad") == Stochastic(8)
    fnuz = find_path(
        load_chip("amd-mi300x"), load_recipe("fp8", {"gradient": {"rounding": "stochastic"}}),
        "dgrad", "gradient", "weight",
    )  # fmt: skip
    assert fnuz.roundings[0] == Stochastic(21)
    strict = load_recipe("nvfp4", {"gradient": {"rounding_in": "unit"}})
    with pytest.raises(InputError, match=r'stochastic.*nvidia-h100.*rounding_in = "software"'):
        list_assumptions(H100, strict)


def test_a_product_may_have_its_own_operands_unit_and_order() -> None:
    """wgrad alone in bfloat16, dgrad by another instruction, attention in float16."""
    over = {
        "gemm": {
            "wgrad": {
                "activation": {"format": "bfloat16", "scaling": "none"},
                "gradient": {"format": "bfloat16", "scaling": "none"},
            },
            "dgrad": {"instruction": "mma.sync"},
            "fprop": {"accumulator": "float16", "k_order": {"name": "descending"}},
        },
        "attention": {"format": "float16"},
    }
    recipe, model, x = load_recipe("fp8", over), linear(32, 16), random(8, 32)
    with emulate(H100, recipe, model=model) as trace:
        h = model(x)
        (h @ h.mT).sum().backward()
    seen = formats(trace)
    assert seen["0", "fprop", "activation"] == "float8_e4m3fn"
    assert seen["0", "wgrad", "activation"] == seen["0", "wgrad", "gradient"] == "bfloat16"
    assert seen["", "fprop", "activation"] == "float16"
    assert seen["0", "fprop", "output"] == "float16"
    assert find_path(H100, recipe, "dgrad", "gradient", "weight").unit.promote_every == 32
    a, w = x.numpy(), model[0].weight.detach().numpy().T
    sa, sw = (np.float32(448) / np.abs(v).max() for v in (a, w))
    unit = H100.matrix_unit("e4m3", "e4m3", output="float16", instruction="wgmma")
    back = np.arange(32)[::-1]
    sums = unit.matmul(
        np.ascontiguousarray(quantize(a * sa, "e4m3")[:, back]),
        np.ascontiguousarray(quantize(np.ascontiguousarray(w * sw), "e4m3")[back]),
    )
    expected = sums * ((np.float32(1) / sa) * (np.float32(1) / sw))
    assert np.array_equal(h.detach().numpy(), quantize(expected, "bfloat16", overflow="infinity"))


def test_faults_of_a_recipe_are_told_where_they_stand() -> None:
    faults: list[tuple[str, dict[str, Any], str]] = [
        ("fp8", {"gemm": {"wgrad": {"weigth": {}}}}, r"gemm wgrad weigth.*did you mean \"weight\""),
        ("fp8", {"gemm": {"wgrad": {"weight": {"scaling": "rwo"}}}}, r"wgrad weight scaling"),
        ("fp8", {"weight": {"scaling": "block"}}, r"needs block = \[n\]"),
        ("mxfp8", {"weight": {"scaling": "tensor"}}, r"brings its scales"),
        ("fp8", {"weight": {"format": "uint4_g32", "scaling": "block"}}, r"zero points"),
        ("fp8", {"weight": {"hadamard": {"size": 12}}}, r"12 is not a power of two"),
        ("bf16", {"weight": {"shrink": 0.5}}, r"shrink = 0.5 needs a scaling"),
        ("mxfp8", {"weight": {"overflow": "infinity"}}, r"overflow"),
    ]
    for name, over, words in faults:
        with pytest.raises(InputError, match=words):
            load_recipe(name, over)
    with pytest.raises(InputError, match="both operands need the same hadamard"):
        list_assumptions(H100, load_recipe("fp8", {"weight": {"hadamard": {"size": 16}}}))
    over = {"gemm": {"fprop": {"promote_every": 96}}}
    with pytest.raises(InputError, match="promote_every = 96 does not divide the 128"):
        list_assumptions(H100, load_recipe("deepseek-v3", over))
    over = {"gemm": {"fprop": {"instruction": "wmma"}}}
    with pytest.raises(InputError, match="by wmma; the chip has"):
        list_assumptions(H100, load_recipe("fp8", over))


def test_first_and_last_layers_are_exempt() -> None:
    model = linear(16, 24, 24, 24, 8)
    over = {"exempt_first": 1, "exempt_last": 2, "exempt": {"format": "float16"}}
    with emulate(H100, load_recipe("fp8", over), model=model) as trace:
        model(random(4, 16)).sum().backward()
    seen = {module: fmt for (module, _, operand), fmt in formats(trace).items()
            if operand == "weight"}  # fmt: skip
    assert seen == {"0": "float16", "1": "float8_e4m3fn", "2": "float16", "3": "float16"}
    with emulate(H100, load_recipe("fp8", over)), pytest.raises(InputError, match="pass model="):
        model(random(4, 16))


class Tied(nn.Module):
    """An embedding whose weight is the head's."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(24, 16)
        self.middle = nn.Linear(16, 16, bias=False)
        self.head = nn.Linear(16, 24, bias=False)
        self.head.weight = self.table.weight

    def forward(self, x: torch.Tensor) -> Any:
        return self.head(self.middle(x))


def test_a_tied_head_is_exempt_forward_and_backward() -> None:
    model = Tied()
    assert list_layers(model) == ["middle", "head"]
    recipe = load_recipe("fp8", {"exempt_last": 1, "output": {"exempt": "bfloat16"}})
    with emulate(H100, recipe, model=model) as trace:
        model(random(8, 16)).sum().backward()
    seen = formats(trace)
    ends = {fmt for (module, _, operand), fmt in seen.items() if module in ("head", "table")}
    assert ends <= {"float32"} and ("middle", "fprop", "weight") in seen


def delayed_run(kind: str) -> tuple[list[bytes], Any]:
    """Six passes; bytes of the results, and the kept state."""
    model, results = linear(32, 32, 8), []
    recipe = load_recipe("fp8-delayed")
    state: Any = None
    for first in (0, 3):
        with emulate(H100, recipe, model=model, state=state) as trace:
            for step in range(first, first + 3):
                x = (random(4, 32, seed=step) * 3.0**step).requires_grad_()
                h = checkpoint(model[0], x, use_reentrant=False) if kind == "again" else model[0](x)
                out = model[1](h)
                out.square().sum().backward()
                results.append(out.detach().numpy().tobytes())
                results.append(x.grad.numpy().tobytes())
                if kind == "evaluated":
                    with torch.no_grad():
                        model(random(4, 32, seed=99) * 1e6)
            state = trace.state_dict()
        if kind == "resumed":
            model = linear(32, 32, 8)
    return results, state["scales"]["rows"]


def test_recomputation_evaluation_and_resumption_leave_delayed_scales_alone() -> None:
    """One run of six passes in two halves, against itself with each of them."""
    results, rows = delayed_run("plain")
    assert len(set(results)) == len(results)
    assert {name.split("|")[1] for name in rows} == {"activation", "weight", "gradient"}
    assert rows["0|activation|float8_e4m3fn"]["scale"] != 1
    for kind in ("again", "evaluated", "resumed"):
        others, theirs = delayed_run(kind)
        assert others == results, kind
        for name, row in rows.items():
            amax, their = (r["amax"].sort().values for r in (row, theirs[name]))
            assert torch.equal(amax, their), (kind, name)  # one may have rolled, the other will


def test_counters_of_blocks_are_in_units_before_scaling() -> None:
    """One block of 32: 1.75 2^9 sets the scale 2^7; 2^5 is a quarter, which e2m1 halves to 0."""
    layer = nn.Linear(32, 1, bias=False)
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[0, :3] = torch.tensor([1.75 * 2.0**9, 2.0**5, 2.0**8])
    with emulate(load_chip("nvidia-b200"), load_recipe("mxfp4"), model=layer) as trace:
        layer(torch.ones(1, 32))
    (row,) = (r for r in trace.take() if r["operand"] == "weight")
    assert (row["values"], row["underflow"], row["saturated"]) == (32, 1, 1)
    assert row["signal"] == (1.75 * 2.0**9) ** 2 + 2.0**10 + 2.0**16
    assert row["noise"] == (2.0**7) ** 2 + 2.0**10


def test_nan_reaches_the_output_through_every_kind_of_scale() -> None:
    for name in ("fp8", "fp8-delayed", "deepseek-v3", "mxfp4", "nvfp4", "int8", "int4"):
        for chip in ("nvidia-h100", "nvidia-b200"):
            layer, x = linear(256, 3)[0], random(2, 256)
            x[0, 1] = float("nan")
            recipe = load_recipe(name, {"exempt_last": 0})
            with emulate(load_chip(chip), recipe, model=layer):
                out = layer(x)
            assert out[0].isnan().all(), (name, chip)


def test_empty_operands_of_blocks() -> None:
    layer = linear(256, 3)[0]
    for name in ("mxfp8", "deepseek-v3", "nvfp4", "fp8-delayed"):
        with emulate(H100, load_recipe(name, {"exempt_last": 0}), model=layer):
            assert layer(torch.ones(0, 256)).shape == (0, 3)


def test_stochastic_blocks_draw_fresh_bits_and_the_same_for_a_seed() -> None:
    """Two backward passes differ, two runs do not."""
    ends = []
    for _ in range(2):
        model, x = linear(32, 16), random(8, 32)
        with emulate(H100, load_recipe("mxfp4"), model=model, seed=4):
            for _ in range(2):
                given = x.clone().requires_grad_()
                (model(given) * random(8, 16, seed=3)).sum().backward()
                ends.append(given.grad)
    assert torch.equal(ends[0], ends[2]) and torch.equal(ends[1], ends[3])
    assert not torch.equal(ends[0], ends[1])


def test_python_of_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parent.parent / "docs" / "recipes.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", page, re.S)
    torch.manual_seed(0)
    exec(compile(block, "docs/recipes.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "nvidia-h100 has no unit for nvfp4 x nvfp4: dequantised" in printed
    assert "nvidia-h100 has no unit for mxfp8_e4m3 x mxfp8_e4m3: dequantised" in printed
    assert all(f"`{name}`" in page for name in list_recipes())
