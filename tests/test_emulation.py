"""Emulation of unmodified PyTorch code: values, roles, refusals, determinism."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tapeout.formats import InputError, Stochastic, quantize
from tapeout.formats.jit import set_threads
from tapeout.optimizers import LMD, Shampoo4bit
from tapeout.scenarios.models.vit import VisionTransformer
from tapeout.simulator import emulate, load_chip, load_recipe, register_op

IEEE, FP32 = load_chip("ieee-float32"), load_recipe("fp32")
H100, FP8 = load_chip("nvidia-h100"), load_recipe("fp8")
UNROTATED = {"gemm": {"fprop": {r: {"hadamard": {"size": 1}} for r in ("weight", "activation")}}}
INT4_CHIP, INT4 = load_chip("generic-int4"), load_recipe("int4", UNROTATED)
OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "adamw": lambda p: torch.optim.AdamW(p, lr=3e-3),
    "lmd": lambda p: LMD(p, lr=0.02, seed=1, fused=False),
    "shampoo4bit": lambda p: Shampoo4bit(p, lr=3e-3, statistics_every=2, roots_every=4),
}


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def train(optimizer: str, steps: int, chip: Any = None, recipe: Any = FP32) -> tuple[Any, Any]:
    """Losses and final parameters of a small Vision Transformer, emulated or plain."""
    model = VisionTransformer(patch=4, width=32, depth=1, heads=2, seed=0)
    x, y = random(16, 1, 8, 8), torch.arange(16) % 10
    opt = OPTIMIZERS[optimizer](model.parameters())

    def run() -> list[float]:
        losses = []
        for _ in range(steps):
            loss = F.cross_entropy(model(x), y)
            opt.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            opt.step()
            losses.append(loss.item())
        return losses

    if chip is None:
        return run(), [p.detach().clone() for p in model.parameters()]
    with emulate(chip, recipe, model=model, seed=5):
        return run(), [p.detach().clone() for p in model.parameters()]


@pytest.mark.parametrize("name", ["adamw", "lmd"])
def test_reference_machine_steps_an_optimizer_to_the_same_bits(name: str) -> None:
    """The same gradients for 60 steps: nothing is summed, so nothing may differ."""
    ends = []
    for emulated in (False, True):
        parameters = [nn.Parameter(random(33, 7)), nn.Parameter(random(5))]
        opt = OPTIMIZERS[name](parameters)

        def steps(parameters: Any = parameters, opt: Any = opt) -> None:
            for step in range(60):
                for i, p in enumerate(parameters):
                    p.grad = random(*p.shape, seed=100 * step + i) * 0.1
                opt.step()

        if emulated:
            with emulate(IEEE, FP32):
                steps()
        else:
            steps()
        ends.append([p.detach().numpy().tobytes() for p in parameters])
    assert ends[0] == ends[1]


@pytest.mark.parametrize(("name", "bound"), [("adamw", 2e-5), ("lmd", 2e-5), ("shampoo4bit", 2e-3)])
def test_reference_machine_trains_as_plain_torch(name: str, bound: float) -> None:
    """20 steps; sums are in another order, so losses agree to a bound: float32 rounding, grown by
    training, and for Shampoo by 4-bit codes that fall on the other side of a threshold."""
    plain, _ = train(name, 20)
    emulated, _ = train(name, 20, IEEE)
    assert plain[-1] < plain[0]
    assert max(abs(a - b) / a for a, b in zip(plain, emulated, strict=True)) < bound


def test_first_step_on_the_reference_machine_is_within_float32_rounding() -> None:
    plain, emulated = train("adamw", 1)[0], train("adamw", 1, IEEE)[0]
    assert abs(plain[0] - emulated[0]) / plain[0] < 1e-6


def test_elementwise_operations_on_the_reference_machine_are_the_hosts() -> None:
    x, y = random(1000), random(1000, seed=1)
    for f in (
        torch.exp,
        torch.tanh,
        F.gelu,
        torch.sqrt,
        lambda v: v / y,
        lambda v: torch.add(v, y, alpha=0.1),
    ):
        with emulate(IEEE, FP32):
            emulated = f(x.abs())
        assert torch.equal(emulated, f(x.abs()))


def test_functions_of_a_chip_are_computed_in_float64_and_rounded_once() -> None:
    x = random(20_000)
    for f in (torch.exp, torch.sigmoid, torch.tanh, lambda v: torch.pow(v.abs(), 0.3)):
        with emulate(H100, FP32) as trace:
            assert torch.equal(f(x), f(x.double()).float())
    assert trace.coverage()["rounded_once"] == {"pow": 1}


def test_sums_follow_the_tree_order() -> None:
    def tree(values: list[np.float32]) -> np.float32:
        while len(values) > 1:
            half = 1 << (len(values) - 1).bit_length() - 1
            tail = values[half:]
            values = [v + tail[i] if i < len(tail) else v for i, v in enumerate(values[:half])]
        return values[0]

    for n in (1, 2, 3, 7, 8, 100):
        x = random(4, n, seed=n) * 1e3
        with emulate(IEEE, FP32):
            rows, everything, mean = x.sum(1), x.sum(), x.mean(0, keepdim=True)
        assert rows.tolist() == [float(tree(list(row))) for row in x.numpy()]
        assert everything.item() == float(tree(list(x.numpy().reshape(-1))))
        assert mean.shape == (1, n)


def test_fp8_product_equals_the_recipe_written_out() -> None:
    """Scale by fl(448 / amax), round to e4m3, the unit's sums, undo the scales, store bfloat16."""
    layer = nn.Linear(40, 24, bias=False)
    x = random(10, 40) * 3
    with emulate(H100, FP8, model=layer):
        out = layer(x)
    a, w = x.numpy(), layer.weight.detach().numpy().T
    sa, sw = (np.float32(448) / np.abs(v).max() for v in (a, w))
    unit = H100.matrix_unit("e4m3", "e4m3", instruction="wgmma")
    sums = unit.matmul(quantize(a * sa, "e4m3"), quantize(np.ascontiguousarray(w * sw), "e4m3"))
    back = (np.float32(1) / sa) * (np.float32(1) / sw)
    assert np.array_equal(out.detach().numpy(), quantize(sums * back, "bfloat16"))


def test_int4_product_equals_the_recipe_written_out() -> None:
    """One scale fl(7 / amax) for each row of x and each output of w, exact integer sums."""
    layer = nn.Linear(16, 12)
    x = random(6, 16)
    with emulate(INT4_CHIP, INT4, model=layer):
        out = layer(x)
    a, w = x.numpy(), layer.weight.detach().numpy()
    sa, sw = (np.float32(7) / np.abs(v).max(1, keepdims=True) for v in (a, w))
    sums = (np.rint(a * sa) @ np.rint(w * sw).T).astype(np.float32)
    factor = (np.float32(1) / sa) * (np.float32(1) / sw).T
    expected = sums * factor + layer.bias.detach().numpy()
    assert np.array_equal(out.detach().numpy(), expected)


def test_trace_counts_what_was_planted() -> None:
    layer = nn.Linear(4, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[448.0, 2.0**-11, 1.0, 0.0]]))
    x = torch.tensor([[1.0, float("nan"), 0.0, 1.0]])
    recipe = load_recipe("fp8", {"weight": {"scaling": "none"}, "activation": {"scaling": "none"}})
    with emulate(H100, recipe, model=layer) as trace:
        layer(x)
    rows = {r["operand"]: r for r in trace.take()}
    weight, activation, output = rows["weight"], rows["activation"], rows["output"]
    assert (weight["values"], weight["underflow"], weight["saturated"]) == (4, 1, 0)
    assert (activation["nonfinite"], activation["nan"]) == (1, 0)
    assert weight["noise"] == 2.0**-22 and weight["signal"] == 448.0**2 + 1 + 2.0**-22
    assert output["macs"] == 4 and output["calls"] == 1
    assert trace.take() == []


def test_stalled_updates_are_counted() -> None:
    layer = nn.Linear(8, 8, bias=False)
    with torch.no_grad():
        layer.weight.fill_(1.0)
    opt = torch.optim.SGD(layer.parameters(), lr=1e-9)
    with emulate(IEEE, FP32, model=layer) as trace:
        layer(torch.ones(2, 8)).sum().backward()
        opt.step()
    (row,) = (r for r in trace.take() if r["operand"] == "update")
    assert (row["module"], row["values"], row["stalled"]) == ("weight", 64, 64)


def test_nan_reaches_the_output_of_integer_units() -> None:
    layer = nn.Linear(4, 3)
    x = torch.ones(2, 4)
    x[0, 1] = float("nan")
    with emulate(INT4_CHIP, INT4, model=layer):
        out = layer(x)
    assert out[0].isnan().all() and out[1].isfinite().all()


def test_same_seed_same_bytes_whatever_the_threads() -> None:
    ends = {}
    for threads in (1, 2):
        set_threads(threads)
        losses, parameters = train("adamw", 3, INT4_CHIP, INT4)
        ends[threads] = (losses, [p.numpy().tobytes() for p in parameters])
    assert ends[1] == ends[2]


def test_position_continues_an_interrupted_run() -> None:
    layer, x = nn.Linear(16, 16), random(8, 16)
    recipe = load_recipe("int4", {"rounding": "stochastic"})
    with emulate(INT4_CHIP, recipe, model=layer, seed=3) as trace:
        layer(x)
        middle = trace.state_dict()
        second = layer(x)
    with emulate(INT4_CHIP, recipe, model=layer, seed=3, state=middle):
        assert torch.equal(layer(x), second)
    with emulate(INT4_CHIP, recipe, model=layer, seed=4, state=middle):
        assert not torch.equal(layer(x), second)


def test_stochastic_operands_are_the_quantisers() -> None:
    layer, x = nn.Linear(8, 8, bias=False), random(3, 8)
    recipe = load_recipe("int4", {"activation": {"rounding": "stochastic"}, **UNROTATED})
    with torch.no_grad():
        layer.weight.copy_(torch.eye(8))
    with emulate(INT4_CHIP, recipe, model=layer, seed=9):
        out = layer(x).detach().numpy()
    scale = np.float32(7) / np.abs(x.numpy()).max(1, keepdims=True)
    codes = quantize(x.numpy() * scale, "int4", rounding=Stochastic(16), seed=9, stream=0)
    factor = (np.float32(1) / scale) * (np.float32(1) / np.float32(7))
    assert np.array_equal(out, codes * np.float32(7) * factor)


def test_undeclared_operations_are_refused_by_name() -> None:
    with (
        emulate(IEEE, FP32),
        pytest.raises(InputError, match=r"aten::special_bessel_j0.*register_op"),
    ):
        torch.special.bessel_j0(random(3))
    layer = nn.Linear(3, 3).double()
    with emulate(IEEE, FP32, model=layer), pytest.raises(InputError, match=r"float64.*\.float\(\)"):
        layer(random(2, 3).double())


def test_a_declared_operation_is_emulated() -> None:
    with torch.library._scoped_library("tapeout_test", "DEF") as library:
        library.define("twice_exp(Tensor x) -> Tensor")
        library.impl("twice_exp", lambda x: torch.exp(x) * 2, "CPU")
        operation = torch.ops.tapeout_test.twice_exp
        x = random(5)
        with emulate(H100, FP32), pytest.raises(InputError, match="tapeout_test::twice_exp"):
            operation(x)

        @register_op("tapeout_test::twice_exp")
        def twice_exp(v: torch.Tensor) -> torch.Tensor:
            return torch.exp(v) * 2

        with emulate(H100, FP32) as trace:
            assert torch.equal(operation(x), torch.exp(x.double()).float() * 2)
        assert "exp" in trace.coverage()["rounded_once"]


def test_a_recipe_that_the_chip_cannot_do_is_refused_at_once() -> None:
    with (
        pytest.raises(InputError, match=r"nvidia-a100.*float8_e4m3fn"),
        emulate(load_chip("nvidia-a100"), load_recipe("fp8", {"substitute": False})),
    ):
        pass
    with (
        pytest.raises(InputError, match=r"stochastic.*nearest_even, toward_zero.*nvidia-h100"),
        emulate(H100, load_recipe("fp8", {"rounding": "stochastic"})),
    ):
        pass


LIBRARY: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "adam": lambda p: torch.optim.Adam(p, amsgrad=True),
    "adamw foreach": lambda p: torch.optim.AdamW(p, foreach=True),
    "rmsprop": torch.optim.RMSprop,
    "adagrad": torch.optim.Adagrad,
    "radam": torch.optim.RAdam,
}


@pytest.mark.parametrize("name", LIBRARY)
def test_torch_optimizers_run_unmodified(name: str) -> None:
    """In float32, every elementwise result rounded once, three steps are near the plain ones."""
    ends = []
    for emulated in (False, True):
        layer = nn.Linear(16, 16)
        with torch.no_grad():
            layer.weight.copy_(random(16, 16))
            layer.bias.zero_()
        opt = LIBRARY[name](list(layer.parameters()))

        def steps(layer: nn.Module = layer, opt: Any = opt) -> None:
            for _ in range(3):
                opt.zero_grad()
                layer(random(4, 16)).square().sum().backward()
                nn.utils.clip_grad_norm_(layer.parameters(), 1.0)
                opt.step()

        if emulated:
            with emulate(H100, FP32, model=layer):
                steps()
        else:
            steps()
        ends.append(layer.weight.detach().clone())
    assert torch.allclose(ends[0], ends[1], rtol=1e-5, atol=1e-6)
    assert not torch.equal(ends[0], random(16, 16))


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize(
    ("chip", "recipe"),
    [
        ("nvidia-h100", "fp8"),
        ("nvidia-h100", "bf16"),
        ("nvidia-a100", "bf16"),
        ("intel-sapphire-rapids", "bf16"),
        ("generic-int4", "int4"),
        ("generic-fp8-sr", "fp8"),
    ],
)
def test_every_optimizer_trains_on_every_chip(name: str, chip: str, recipe: str) -> None:
    losses, parameters = train(name, 6, load_chip(chip), load_recipe(recipe))
    assert losses[-1] < losses[0]
    assert all(p.isfinite().all() for p in parameters)
