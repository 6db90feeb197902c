"""Loss scaling around unmodified programs: exact where it does not overflow, and skipped steps."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from lion_pytorch import Lion
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tapeout.formats import InputError
from tapeout.optimizers import LMD, Shampoo4bit
from tapeout.simulator import emulate, load_chip, load_recipe

IEEE = load_chip("ieee-float32")
PLAIN = load_recipe("fp32")
SCALED = load_recipe("fp32", {"loss_scaling": {"initial": 2.0**10, "interval": 3}})
STATIC = load_recipe("fp32", {"loss_scaling": {"kind": "static", "initial": 2.0**10}})


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def layer() -> nn.Linear:
    made = nn.Linear(6, 6)
    with torch.no_grad():
        made.weight.copy_(random(6, 6, seed=1))
        made.bias.copy_(random(6, seed=2))
    return made


def backward(net: nn.Linear) -> list[Any]:
    net(random(3, 6)).square().mean().backward()
    return []


def accumulation(net: nn.Linear) -> list[Any]:
    for seed in range(3):
        torch.autograd.backward(net(random(3, 6, seed=seed)).square().mean())
    return []


def shared_weights(net: nn.Linear) -> list[Any]:
    net(torch.tanh(net(random(3, 6)))).sum().backward()
    return []


def retained(net: nn.Linear) -> list[Any]:
    x = random(3, 6).requires_grad_()
    hidden = net(x)
    hidden.retain_grad()
    loss = hidden.square().mean()
    loss.backward(retain_graph=True)
    loss.backward()
    return [hidden.grad, x.grad]


def asked(net: nn.Linear) -> list[Any]:
    x = random(3, 6).requires_grad_()
    hidden = net(x)
    first = torch.autograd.grad(hidden.square().mean(), [net.weight, x, hidden], retain_graph=True)
    hidden.sum().backward(inputs=[net.bias, hidden])
    return [*first, hidden.grad]


def penalty(net: nn.Linear) -> list[Any]:
    x = random(3, 6).requires_grad_()
    (slope,) = torch.autograd.grad(torch.tanh(net(x)).sum(), x, create_graph=True)
    slope.square().sum().backward()  # type: ignore[no-untyped-call]
    return [slope]


def checkpointed(net: nn.Linear) -> list[Any]:
    x = random(3, 6).requires_grad_()
    for reentrant in (False, True):
        checkpoint(net, torch.tanh(x), use_reentrant=reentrant).square().mean().backward()
    return [x.grad]


class Solved(torch.autograd.Function):
    """A layer that differentiates a function inside of its own backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return torch.tanh(x @ weight)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (g,) = grads
        x, weight = (t.detach().requires_grad_() for t in ctx.saved_tensors)
        with torch.enable_grad():
            y = torch.tanh(x @ weight)
        return torch.autograd.grad(y, (x, weight), g)


def nested(net: nn.Linear) -> list[Any]:
    x = random(3, 6).requires_grad_()
    solved: Any = Solved.apply
    solved(x, net.weight).square().sum().backward()
    return [x.grad]


def clipped(net: nn.Linear) -> list[Any]:
    seen: list[Any] = []

    def clip(g: Tensor) -> Tensor:
        seen.append(g.clone())
        return g.clamp(-0.01, 0.01)

    weight: Any = net.weight
    weight.register_hook(clip)
    net(random(3, 6)).square().mean().backward()
    return [nn.utils.clip_grad_norm_(net.parameters(), 0.02), *seen]


def functional(net: nn.Linear) -> list[Any]:
    x = random(3, 6)
    return [torch.func.grad(lambda w: torch.tanh(x @ w).sum())(net.weight.detach())]


PROGRAMS = (backward, accumulation, shared_weights, retained, asked, penalty, checkpointed, nested,
            clipped, functional)  # fmt: skip


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_sees_the_gradients_that_it_has_without_scaling(program: Any) -> None:
    """Scaling with a power of two and back is exact, so every bit is the same."""
    results = []
    for recipe in (PLAIN, STATIC):
        net = layer()
        with emulate(IEEE, recipe, model=net):
            found = program(net)
        results.append([*found, net.weight.grad, net.bias.grad])
    for plain, scaled in zip(*results, strict=True):
        assert (plain is None) == (scaled is None)
        assert plain is None or torch.equal(plain, scaled)
    assert any(g is not None and bool((g != 0).any()) for g in results[0])


def test_gradients_carry_the_scale_between_root_and_leaf() -> None:
    net, seen = layer(), []
    with emulate(IEEE, STATIC, model=net):
        hidden = net(random(3, 6))
        hidden.register_hook(lambda g: seen.append(g.clone()))
        hidden.sum().backward()
    assert torch.equal(seen[0], torch.full((3, 6), 1024.0))
    assert torch.equal(net.bias.grad, torch.full((6,), 3.0))  # type: ignore[arg-type]


def test_the_engine_is_torchs_again_afterwards() -> None:
    places: Any = (torch.autograd, torch.autograd.graph)
    before = [place._engine_run_backward for place in places]
    with pytest.raises(KeyError), emulate(IEEE, SCALED, model=layer()):
        assert all(place._engine_run_backward is not before[0] for place in places)
        raise KeyError
    assert [place._engine_run_backward for place in places] == before
    assert "retain_grad" not in vars(torch.Tensor)


def test_float16_gradients_survive_with_the_scale_and_vanish_without() -> None:
    ends: list[Any] = []
    for override in ({}, {"loss_scaling": {"kind": "static", "initial": 1}}):
        net = layer()
        with emulate(load_chip("nvidia-h100"), load_recipe("fp16", override), model=net):
            (net(random(3, 6)) * 2.0**-27).sum().backward()
        ends.append(net.bias.grad)
    assert torch.equal(ends[0], torch.full((6,), 3 * 2.0**-27)) and not ends[1].any()


OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1),
    "lion": lambda p: Lion(p, lr=0.01, weight_decay=0.1),
    "lmd": lambda p: LMD(p, lr=0.02, seed=1),
    "shampoo": lambda p: Shampoo4bit(
        p, lr=0.01, statistics_every=1, roots_every=1, min_elements=16
    ),
}


def tensors(node: Any) -> list[bytes]:
    """The bytes of every tensor in a tree, and every number of it."""
    if isinstance(node, Tensor):
        return [node.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()]
    if isinstance(node, dict):
        return [b for key in node for b in tensors(node[key])]
    if isinstance(node, list | tuple):
        return [b for value in node for b in tensors(value)]
    return [repr(node).encode()]


def frozen(net: nn.Module, optimizer: torch.optim.Optimizer) -> list[bytes]:
    return tensors([net.state_dict(), optimizer.state_dict()])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_with_an_infinite_gradient_changes_nothing(name: str) -> None:
    net = layer()
    optimizer = OPTIMIZERS[name](net.parameters())

    def step(spoil: bool) -> None:
        optimizer.zero_grad()
        net(random(3, 6)).square().mean().backward()
        if spoil:
            net.weight.grad[0, 0] = float("inf")  # type: ignore[index]
        optimizer.step()

    with emulate(IEEE, SCALED, model=net) as trace:
        step(False)
        step(False)
        before = frozen(net, optimizer)
        step(True)
        assert frozen(net, optimizer) == before
        assert net.weight.grad is not None and not net.weight.grad.isfinite().all()
        assert trace.state_dict()["loss_scaling"] == {"scale": 512.0, "good": 0, "skipped": 1}
        step(False)
        assert frozen(net, optimizer) != before
    skipped = [row for row in trace.take() if row["operand"] == "skipped"]
    assert [row["calls"] for row in skipped] == [1]


def test_the_scale_rises_after_the_interval_and_keeps_its_bounds() -> None:
    recipe = load_recipe(
        "fp32", {"loss_scaling": {"initial": 4, "interval": 2, "least": 1, "most": 8}}
    )
    net = layer()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    scales = []
    with emulate(IEEE, recipe, model=net) as trace:
        for factor in (1.0, 1.0, 1.0, 1.0, *[float("inf")] * 4):
            optimizer.zero_grad()
            (net(random(3, 6)).mean() * factor).backward()
            optimizer.step()
            scales.append(trace.state_dict()["loss_scaling"]["scale"])
    assert scales == [4, 8, 8, 8, 4, 2, 1, 1]


def test_two_optimizers_after_one_backward_pass_count_once() -> None:
    net = layer()
    parameters: list[Any] = list(net.parameters())
    pair = [torch.optim.SGD([p], lr=0.1) for p in parameters]
    with emulate(IEEE, SCALED, model=net) as trace:
        for spoil in (False, True):
            net(random(3, 6)).mean().backward()
            for p in parameters:
                p.grad = p.grad * float("nan") if spoil else p.grad
            for optimizer in pair:
                optimizer.step()
            state = trace.state_dict()["loss_scaling"]
            assert (state["scale"], state["good"]) == ((512, 0) if spoil else (1024, 1))


def test_a_step_whose_closure_gives_an_infinite_gradient_is_skipped() -> None:
    net = layer()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    factors = iter([1.0, float("inf"), 1.0])

    def closure() -> Any:
        optimizer.zero_grad()
        loss = (net(random(3, 6)) * next(factors)).mean()
        loss.backward()
        return loss

    with emulate(IEEE, SCALED, model=net):
        optimizer.step(closure)
        before = frozen(net, optimizer)
        assert optimizer.step(closure) is None
        assert frozen(net, optimizer) == before
        assert optimizer.step(closure) is not None
        assert frozen(net, optimizer) != before


def test_a_later_evaluation_that_overflows_is_refused() -> None:
    net = layer()
    optimizer: Any = torch.optim.LBFGS(net.parameters(), lr=0.1, max_iter=4)
    factors = iter([1.0, float("inf")])

    def closure() -> Any:
        optimizer.zero_grad()
        loss = (net(random(3, 6)) * next(factors)).square().mean()
        loss.backward()
        return loss

    with emulate(IEEE, SCALED, model=net), pytest.raises(InputError, match=r"evaluation 2.*LBFGS"):
        optimizer.step(closure)


def test_a_programs_own_scaler_works() -> None:
    """It scales, unscales, skips and backs off as on the host."""
    ends = []
    for emulated in (False, True):
        net = layer()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        scaler = torch.amp.GradScaler("cpu", init_scale=256.0, growth_interval=2)

        def steps(net: Any = net, optimizer: Any = optimizer, scaler: Any = scaler) -> None:
            for factor in (1.0, float("inf"), 1.0, 1.0):
                optimizer.zero_grad()
                scaler.scale((net(random(3, 6)) * factor).sum()).backward()
                scaler.step(optimizer)
                scaler.update()

        if emulated:
            with emulate(IEEE, PLAIN, model=net):
                steps()
        else:
            steps()
        ends.append((scaler.get_scale(), net.bias.detach().clone()))
    assert ends[0][0] == ends[1][0] == 256.0
    assert torch.allclose(ends[0][1], ends[1][1], rtol=1e-6)


def test_refusals_say_what_to_do() -> None:
    with pytest.raises(InputError, match=r"initial.*3\.0 is not a power of two"):
        load_recipe("fp32", {"loss_scaling": {"initial": 3}})
    with pytest.raises(InputError, match=r"backoff = 2\.0 < 1 < growth"):
        load_recipe("fp32", {"loss_scaling": {"backoff": 2}})
    weight = nn.Parameter(random(4).half())
    with emulate(IEEE, STATIC, model=nn.ParameterList([weight])):
        with pytest.raises(InputError, match=r"shape \(4,\) is float16.*keep the model in float32"):
            (weight.float() * 2).sum().backward()  # type: ignore[no-untyped-call]
