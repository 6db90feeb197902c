"""Storage formats by role, held against formats written by others, and what a run occupies."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tapeout.formats import InputError, Stochastic, quantize
from tapeout.optimizers import Shampoo4bit
from tapeout.simulator import emulate, load_chip, load_recipe

IEEE, H100 = load_chip("ieee-float32"), load_chip("nvidia-h100")
BF16 = {"format": "bfloat16"}
E4M3 = {"format": "e4m3", "scaling": "tensor"}


def recipe(**memory: Any) -> Any:
    return load_recipe("fp32", {"memory": memory})


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def layer(inputs: int = 6, outputs: int = 6) -> nn.Linear:
    made = nn.Linear(inputs, outputs)
    with torch.no_grad():
        made.weight.copy_(random(outputs, inputs, seed=1))
        made.bias.copy_(random(outputs, seed=2))
    return made


def bfloat16(x: Tensor) -> Tensor:
    """By ml_dtypes."""
    rounded = x.detach().numpy().astype(ml_dtypes.bfloat16).astype(np.float32)
    return torch.from_numpy(rounded)


def scaled_e4m3(x: Tensor) -> Tensor:
    """One scale a tensor, by ml_dtypes."""
    values = x.detach().numpy()
    scale = np.abs(values).max() / np.float32(448)
    codes = (values / scale).astype(ml_dtypes.float8_e4m3fn)
    return torch.from_numpy(codes.astype(np.float32) * scale)


def near(a: Tensor | None, b: Tensor, rtol: float) -> bool:
    return a is not None and np.allclose(a.detach().numpy(), b.detach().numpy(), rtol, 1e-6)


def same(a: Tensor | None, b: Tensor | None) -> bool:
    return a is not None and b is not None and torch.equal(a.detach(), b.detach())


def test_weights_are_rounded_at_once_and_after_every_step() -> None:
    net = layer()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    expected = bfloat16(net.weight)
    with emulate(IEEE, recipe(weight=BF16), model=net):
        assert same(net.weight, expected)
        for seed in range(3):
            optimizer.zero_grad()
            net(random(4, 6, seed=seed)).square().mean().backward()
            expected = bfloat16(expected - 0.1 * net.weight.grad)  # type: ignore[operator]
            optimizer.step()
            assert same(net.weight, expected)


def test_stochastic_weights_are_the_quantisers() -> None:
    weight = nn.Parameter(random(40, 5))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    how = {**BF16, "rounding": "stochastic", "rounding_in": "software"}
    start = weight.detach().clone()
    with emulate(IEEE, recipe(weight=how), model=nn.ParameterList([weight]), seed=7) as trace:
        first = quantize(start, "bfloat16", rounding=Stochastic(16), seed=7, stream=0)
        assert same(weight, first) and not same(first, bfloat16(start))
        weight.grad = random(40, 5, seed=1) / 64
        optimizer.step()
        updated = first - weight.grad
        assert same(
            weight, quantize(updated, "bfloat16", rounding=Stochastic(16), seed=7, stream=1)
        )
        weight.grad = None
        optimizer.step()
        assert trace.position == 2  # what no step changed is not stored again
    assert any("bfloat16 with stochastic" in told for told in trace.assumptions())


def test_masters_move_while_working_copies_stand_still() -> None:
    """The masters follow float32 SGD on the gradients at the working copies, bit for bit."""
    net = layer()
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    master = net.weight.detach().clone()
    stood = 0
    with emulate(IEEE, recipe(weight=BF16, master={}), model=net) as trace:
        for seed in range(6):
            before = net.weight.detach().clone()
            optimizer.zero_grad()
            net(random(4, 6, seed=seed)).square().mean().backward()
            master = master - 1e-3 * net.weight.grad  # type: ignore[operator]
            optimizer.step()
            assert same(net.weight, bfloat16(master))
            stood += int((net.weight == before).sum())
        kept = trace.state_dict()["weights"]["weight"]["master"]
    assert same(kept, master) and stood > 0


@pytest.mark.parametrize("master", [None, {"format": "float32"}])
def test_what_the_program_writes_into_weights_is_kept(master: Any) -> None:
    """By load_state_dict before a forward pass, and by `.data`, uncounted, before a step."""
    net, fresh = layer(), random(6, 6, seed=9)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    memory = {"weight": BF16} | ({"master": master} if master else {})
    with emulate(IEEE, recipe(**memory), model=net):
        net(random(4, 6)).sum().backward()
        optimizer.step()
        net.load_state_dict({"weight": fresh, "bias": torch.zeros(6)})
        optimizer.zero_grad()
        out = net(random(4, 6))
        expected = random(4, 6).numpy() @ bfloat16(fresh).numpy().T
        assert near(out, torch.from_numpy(expected), 1e-5)
        out.sum().backward()
        net.weight.data.mul_(2.0)
        optimizer.step()
        start = 2 * bfloat16(fresh)
        assert same(net.weight, bfloat16(start - 0.5 * net.weight.grad))  # type: ignore[operator]


def test_gradients_are_rounded_after_each_accumulation_before_the_programs_hooks() -> None:
    net: Any
    net, seen = layer(), []
    net.weight.register_post_accumulate_grad_hook(lambda p: seen.append(p.grad.clone()))
    expected = torch.zeros(6, 6)
    with emulate(IEEE, recipe(gradient=BF16), model=net):
        for seed in range(3):
            x = random(4, 6, seed=seed)
            net(x).sum().backward()
            expected = bfloat16(expected + x.sum(0).expand(6, 6))
            assert near(net.weight.grad, expected, 2**-8)
            assert same(net.weight.grad, bfloat16(net.weight.grad))
            assert same(seen[-1], net.weight.grad)
    net(random(4, 6)).sum().backward()
    assert not same(net.weight.grad, bfloat16(net.weight.grad))


def test_optimizer_states_are_rounded_by_name() -> None:
    rows = {"exp_avg": E4M3, "exp_avg_*": {"format": "float16"}, "*": BF16}
    weight = nn.Parameter(random(30, 4))
    optimizer = torch.optim.AdamW([weight], lr=0.01)
    m, v = torch.zeros(30, 4), torch.zeros(30, 4)
    with emulate(IEEE, recipe(optimizer=rows)) as trace:
        for seed in range(3):
            weight.grad = random(30, 4, seed=seed)
            optimizer.step()
            m = scaled_e4m3(m + (weight.grad - m) * 0.1)
            v = (v * 0.999 + weight.grad * weight.grad * 0.001).half()
            v = v.float()
            state = optimizer.state[weight]
            # The optimizer's own rounding may differ in the last bit, and fall across a threshold.
            assert (state["exp_avg"] == m).float().mean() > 0.98
            assert near(state["exp_avg_sq"], v, 2**-10)
            assert same(state["exp_avg"], scaled_e4m3(state["exp_avg"]))
            assert same(state["exp_avg_sq"], state["exp_avg_sq"].half().float())
            assert state["step"] == seed + 1
            m, v = state["exp_avg"].clone(), state["exp_avg_sq"].clone()
    stored = {row["operand"] for row in trace.take() if row["op"] == "store"}
    assert stored == {"exp_avg", "exp_avg_sq"}


def test_nested_states_are_found_and_codes_left_alone() -> None:
    weight = nn.Parameter(random(16, 16))
    rows = {"sides.*.scales": BF16, "first": {"format": "linear2_4bit", "scaling": "block",
            "block": 64, "rounding_in": "software"}}  # fmt: skip
    optimizer = Shampoo4bit([weight], statistics_every=1, roots_every=1, min_elements=16)
    with emulate(IEEE, recipe(optimizer=rows)):
        weight.grad = random(16, 16, seed=3)
        optimizer.step()
    state = optimizer.state[weight]
    factor = state["sides"][0][0]["factor"]
    assert factor["codes"].dtype == torch.uint8
    assert all(same(x, bfloat16(x)) for k, x in factor.items() if k == "scales")
    assert all(len(block.unique()) <= 16 for block in state["first"].reshape(4, 64))


def test_saved_activations_are_rounded_and_forward_is_not() -> None:
    net, x = layer(), random(4, 6).requires_grad_()
    with emulate(IEEE, recipe(activation=BF16), model=net):
        hidden = net(x)
        loss = (hidden * hidden).sum()
        loss.backward()
    plain = x.detach() @ net.weight.detach().T + net.bias.detach()
    assert torch.allclose(hidden.detach(), plain, rtol=1e-5, atol=1e-6)
    gradient = 2 * bfloat16(hidden)
    assert torch.allclose(net.bias.grad, gradient.sum(0), rtol=1e-6)  # type: ignore[arg-type]
    assert torch.allclose(net.weight.grad, gradient.T @ bfloat16(x), rtol=1e-5, atol=1e-5)  # type: ignore[arg-type]
    # Parameters are no activations: dgrad reads the weight itself.
    assert torch.allclose(x.grad, gradient @ net.weight.detach(), rtol=1e-5, atol=1e-5)  # type: ignore[arg-type]


def test_a_tensor_saved_twice_is_stored_once_and_freed_with_the_graph() -> None:
    net, x = layer(), random(8, 6).requires_grad_()
    with emulate(IEEE, recipe(activation=BF16), model=net) as trace:
        for _ in range(2):
            total = torch.tanh(net(x)) + net(x.view(2, 4, 6)).view(8, 6) + net(x.T.contiguous().T)
            total.sum().backward()
        (row,) = (r for r in trace.memory() if r["role"] == "activation")
    # x under two views, its transposed copy, tanh's result: three tensors of 48 numbers.
    assert row == {"role": "activation", "bytes": 3 * 96, "float32_bytes": 3 * 192, "tensors": 3}


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_stores_only_what_enters_it(reentrant: bool) -> None:
    net, x = nn.Sequential(layer(), nn.Tanh(), layer()), random(8, 6).requires_grad_()
    gradients = []
    for how in ("plain", "stored input"):
        net.zero_grad()
        start = x if how == "plain" else bfloat16(x).requires_grad_()
        memory = {"activation": BF16} if how == "plain" else {}
        with emulate(IEEE, recipe(**memory), model=net) as trace:
            out = checkpoint(net, start, use_reentrant=reentrant)
            out.sum().backward()
        if how == "plain":
            assert trace.memory()[-1]["bytes"] == 96
        gradients.append([p.grad.clone() for p in net.parameters()])  # type: ignore[union-attr]
    assert all(same(a, b) for a, b in zip(*gradients, strict=True))


def test_products_of_stored_activations_keep_their_roles() -> None:
    net = nn.Sequential(layer(), nn.Tanh(), layer())
    found = []
    for memory in ({}, {"activation": E4M3}):
        with emulate(H100, load_recipe("fp8", {"memory": memory}), model=net) as trace:
            net(random(8, 6)).sum().backward()
        rows = [r for r in trace.take() if r["op"] == "matmul"]
        found.append([(r["module"], r["gemm"], r["operand"], r["calls"]) for r in rows])
    assert found[0] == found[1]


def test_writing_into_a_tensor_that_was_saved_is_an_error_as_in_torch() -> None:
    weight = nn.Parameter(torch.ones(4))
    with emulate(IEEE, recipe(activation=BF16), model=nn.ParameterList([weight])):
        x = torch.ones(4)  # a value of the format: no copy is made
        out = (weight * x).sum()
        x.add_(1)
        with pytest.raises(RuntimeError, match="modified by an in-place operation"):
            out.backward()  # type: ignore[no-untyped-call]


def test_what_a_run_occupies_by_a_hand_count() -> None:
    """A layer of 6 x 40 and 6 numbers, AdamW with two moments, a batch of 3."""
    memory = {
        "weight": {"format": "mxfp4_e2m1"},
        "master": {"format": "float16", "scaling": "tensor"},
        "gradient": {"format": "e4m3", "scaling": "row"},
        "activation": {"format": "mxfp6_e2m3"},
        "optimizer": {"exp_avg": {"format": "nvfp4"}, "exp_avg_sq": {
            "format": "dynamic_8bit_unsigned", "scaling": "block", "block": 64,
            "rounding_in": "software"}},
    }  # fmt: skip
    net = layer(40, 6)
    optimizer = torch.optim.AdamW(net.parameters())
    with emulate(IEEE, recipe(**memory), model=net) as trace:
        net(random(3, 40)).sum().backward()
        optimizer.step()
        rows = {row["role"]: row for row in trace.memory()}
    weight = (6 * 20 + 6 * 2) + (3 + 1)  # 4 bits each, a byte of scale for 32 of a row
    master = (480 + 4) + (12 + 4)
    gradient = (240 + 6 * 4) + (6 + 4)
    first = (6 * 20 + 6 * 3 + 4) + (3 + 1 + 4)  # scales of 16, and one of the tensor
    second = (240 + 4 * 4) + (6 + 4)
    activation = 3 * 30 + 3 * 2  # 6 bits each: a row of 40 takes 30 bytes
    sizes = {role: (row["bytes"], row["float32_bytes"]) for role, row in rows.items()}
    assert sizes == {
        "weight": (weight, 4 * 246),
        "master": (master, 0),
        "gradient": (gradient, 4 * 246),
        "optimizer": (first + second + 2 * 4, 2 * 4 * 246 + 2 * 4),
        "activation": (activation, 4 * 120),
    }


def test_fp8_lm_takes_six_bytes_a_parameter() -> None:
    net = layer(64, 64)
    optimizer = torch.optim.AdamW(net.parameters())
    with emulate(H100, load_recipe("fp8-lm"), model=net) as trace:
        net(random(4, 64)).sum().backward()
        optimizer.step()
    total = sum(r["bytes"] for r in trace.memory() if r["role"] != "activation")
    numbers = 64 * 64 + 64
    assert total == 6 * numbers + 2 * 4 * 4 + 2 * 4  # two parameters: four scales and a counter


@pytest.mark.parametrize("master", [None, {}])
def test_closures_see_stored_weights(master: Any) -> None:
    net, seen = layer(), []
    optimizer: Any = torch.optim.LBFGS(net.parameters(), lr=0.1, max_iter=3)
    memory: dict[str, Any] = {"weight": BF16} | ({} if master is None else {"master": master})

    def closure() -> Any:
        optimizer.zero_grad()
        seen.append(net.weight.detach().clone())
        loss = net(random(4, 6)).square().mean()
        loss.backward()
        return loss

    with emulate(IEEE, recipe(**memory), model=net):
        optimizer.step(closure)
    assert len(seen) > 1 and not same(seen[0], seen[-1])
    assert all(same(w, bfloat16(w)) for w in (*seen, net.weight))


class Lookahead(torch.optim.Optimizer):
    """A wrapper in the way of Zhang et al.: its step is a step of another and one of its own."""

    def __init__(self, inner: torch.optim.Optimizer) -> None:
        self.inner = inner
        super().__init__(inner.param_groups, {})

    def step(self, closure: Any = None) -> Any:
        for p in (p for group in self.param_groups for p in group["params"]):
            self.state[p].setdefault("slow", p.detach().clone())
        self.inner.step()
        with torch.no_grad():
            for p in (p for group in self.param_groups for p in group["params"]):
                p.copy_(self.state[p]["slow"].lerp_(p, 0.5))


class Raising(torch.optim.SGD):
    """A step that fails half way."""

    def step(self, closure: Any = None) -> Any:
        super().step()
        raise KeyError("half way")


def test_steps_within_steps_store_once() -> None:
    net = layer()
    optimizer = Lookahead(torch.optim.SGD(net.parameters(), lr=0.1))
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    start = net.weight.detach().clone()
    with emulate(IEEE, recipe(weight=BF16, master={}), model=net) as trace:
        net(random(4, 6)).sum().backward()
        optimizer.step()
        scheduler.step()
        state = trace.state_dict()
        (update,) = (r for r in trace.take() if (r["module"], r["operand"]) == ("weight", "update"))
    assert update["values"] == 36
    fast = start - 0.1 * net.weight.grad  # type: ignore[operator]
    assert near(state["weights"]["weight"]["master"], start.lerp(fast, 0.5), 1e-6)
    assert same(net.weight, bfloat16(state["weights"]["weight"]["master"]))
    assert state["step"] == 1


def test_a_step_that_raises_leaves_stored_weights_and_no_optimizer_behind() -> None:
    net = layer()
    optimizer = Raising(net.parameters(), lr=0.1)
    with emulate(IEEE, recipe(weight=BF16, master={}), model=net) as trace:
        net(random(4, 6)).sum().backward()
        with pytest.raises(KeyError, match="half way"):
            optimizer.step()
        assert same(net.weight, bfloat16(net.weight))
        trace.take()
        with torch.no_grad():
            net(random(4, 6))
    assert {r["gemm"] for r in trace.take() if r["op"] == "matmul"} == {"fprop"}


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"weight": {"format": "int8"}}, r"int8 needs a scaling: tensor, row or block"),
    ({"weight": {"format": "mxfp8_e4m3", "scaling": "row"}}, r"takes no scaling of its own"),
    ({"weight": {"format": "e4m3", "scaling": "block"}}, r'block, .*scaling = "block"'),
    ({"optimizer": {"m": {"format": "nf4", "scaling": "row"}}}, r"no unit looks up codes"),
    ({"activation": {"format": "e4m4m"}}, r"e4m4m"),
    ({"activatio": {}}, r'unknown key "activatio" \(did you mean "activation"'),
]


@pytest.mark.parametrize(("memory", "told"), REFUSED)
def test_tables_are_refused_by_their_fault(memory: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        recipe(**memory)


def test_runs_are_refused_by_their_fault() -> None:
    def run(memory: dict[str, Any], model: Any, act: Callable[[], Any] = lambda: None) -> None:
        with emulate(H100, recipe(**memory), model=model):
            act()

    with pytest.raises(InputError, match=r"model=model"):
        run({"weight": BF16}, None)
    with pytest.raises(InputError, match=r"stochastic.*nearest_even, toward_zero.*software"):
        run({"weight": {**BF16, "rounding": "stochastic"}}, layer())
    with pytest.raises(InputError, match=r"weight is torch\.float16, which holds no masters"):
        run({"weight": BF16, "master": {}}, layer().half())
    with pytest.raises(InputError, match=r"memory weight of weight: float16 cannot hold"):
        run({"weight": BF16}, layer().half())
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(2))], lr=0.1)
    optimizer.state[optimizer.param_groups[0]["params"][0]]["bag"] = {1, 2}
    with pytest.raises(InputError, match=r"optimizer state bag is a set"):
        run({"optimizer": {"*": BF16}}, None, optimizer.step)


def test_python_of_the_page_runs() -> None:
    page = (Path(__file__).parent.parent / "docs" / "memory.md").read_text()
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.S):
        exec(compile(block, "docs/memory.md", "exec"), names)
    assert {row["role"] for row in names["trace"].memory()} > {"weight", "master", "activation"}
