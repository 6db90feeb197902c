"""Roles and modules of matrix products, found without help: by hand counts."""

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.autograd import backward
from torch.func import functional_call, grad, jacrev, jvp, vmap
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from tapeout.optimizers import Shampoo4bit
from tapeout.simulator import emulate, load_chip, load_recipe
from tapeout.simulator.matrix import MatrixWork
from tapeout.simulator.phase import Phase
from tapeout.simulator.roles import Product

H100, FP8, BF16 = load_chip("nvidia-h100"), load_recipe("fp8"), load_recipe("bf16")
Count = Counter[tuple[str, str, str]]


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Block(nn.Module):
    """One attention of two products, and two layers."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        out: torch.Tensor = self.out(torch.softmax(q @ k.mT, -1) @ v)
        return out


class Watch:
    """Every product of a run: its module, its GEMM role and what its operands are."""

    def __init__(self) -> None:
        self.products: list[Product] = []
        self.operands: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.recipe = BF16

    def __call__(self, run: Callable[[], Any], model: nn.Module | None = None) -> Count:
        self.products.clear()
        self.operands.clear()
        with emulate(H100, self.recipe, model=model):
            run()
        return Counter((p.module, p.gemm, "x".join(sorted(p.names))) for p in self.products)


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    """Products are the host's here: roles alone are looked at."""
    seen = Watch()

    def multiply(
        self: Any, product: Product, a: torch.Tensor, b: torch.Tensor, bias: Any = None
    ) -> torch.Tensor:
        seen.products.append(product)
        seen.operands.append((a.detach(), b.detach()))
        sums = a.detach().float() @ b.detach().float()
        return sums if bias is None else sums + bias.detach()

    monkeypatch.setattr(MatrixWork, "run", multiply)
    yield seen


AW, GW, AG, AA = (
    "activationxweight",
    "gradientxweight",
    "activationxgradient",
    "activationxactivation",
)


def layer(name: str, times: int = 1, *, first: bool = False) -> Count:
    """What a layer does: one product forward, two backward, or one if its input needs none."""
    count = Counter({(name, "fprop", AW): times, (name, "wgrad", AG): times})
    return count if first else count + Counter({(name, "dgrad", GW): times})


def attention(name: str = "", times: int = 1) -> Count:
    return Counter({(name, "fprop", AA): 2 * times, (name, "dgrad", AG): 4 * times})


def mlp(width: int = 8) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, 16), nn.ReLU(), nn.Linear(16, 16), nn.Linear(16, 4))


MLP = layer("0", first=True) + layer("2") + layer("3")


@pytest.mark.parametrize("batch", [4, 5, 8, 16])
def test_perceptron(watch: Watch, batch: int) -> None:
    """A batch of 16 meets a layer of 16 x 16: no extent tells dgrad from wgrad."""
    model = mlp()
    assert watch(lambda: model(random(batch, 8)).sum().backward(), model) == MLP
    x = random(batch, 8).requires_grad_()
    assert watch(lambda: model(x).sum().backward(), model) == MLP + Counter({("0", "dgrad", GW): 1})
    assert watch(lambda: model(random(batch, 8)).backward(random(batch, 4)), model) == MLP
    assert watch(lambda: torch.autograd.grad(model(x).sum(), x), model) == Counter(
        {(n, g, o): 1 for n in "023" for g, o in (("fprop", AW), ("dgrad", GW))}
    )
    with torch.no_grad():
        assert watch(lambda: model(x), model) == Counter({(n, "fprop", AW): 1 for n in "023"})
    with torch.inference_mode():
        assert watch(lambda: model(x), model) == Counter({(n, "fprop", AW): 1 for n in "023"})


BLOCK = layer("qkv", first=True) + attention() + layer("out")


def test_attention_and_accumulated_gradients(watch: Watch) -> None:
    block, x = Block(), random(2, 5, 8)
    assert watch(lambda: block(x).sum().backward(), block) == BLOCK
    three = watch(lambda: [block(x).sum().backward() for _ in range(3)], block)
    assert three == Counter({key: 3 * n for key, n in BLOCK.items()})

    def later() -> None:
        losses = [block(x).sum() for _ in range(3)]
        block(x).detach()
        for loss in losses:
            backward(loss)

    more = Counter({("qkv", "fprop", AW): 1, ("out", "fprop", AW): 1, ("", "fprop", AA): 2})
    assert watch(later, block) == three + more


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("tokens", [5, 8])
def test_checkpointing(watch: Watch, reentrant: bool, tokens: int) -> None:
    """The forward pass runs twice; without re-entrance up to the last saved tensor."""
    block, x = Block(), random(2, tokens, 8).requires_grad_()
    forward = Counter({("qkv", "fprop", AW): 1, ("", "fprop", AA): 2})
    last = Counter({("out", "fprop", AW): 1}) if reentrant else Counter()
    run = lambda: checkpoint(block, x, use_reentrant=reentrant).sum().backward()  # noqa: E731
    count = watch(run, block)
    assert count == BLOCK + Counter({("qkv", "dgrad", GW): 1}) + forward + last
    names = {p.names for p in watch.products if p.gemm == "wgrad"}
    assert names == {("gradient", "activation")} or names == {("activation", "gradient")}


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        core = lambda v: torch.softmax(v @ v.mT, -1) @ v  # noqa: E731
        out: torch.Tensor = self.b(checkpoint(core, self.a(x), use_reentrant=False))
        return out


def test_a_checkpointed_function_belongs_to_the_module_that_called_it(watch: Watch) -> None:
    model = nn.Sequential(Inner())
    count = watch(lambda: model(random(2, 8, 8)).sum().backward(), model)
    assert count == layer("0.a", first=True) + layer("0.b") + attention("0") + Counter(
        {("0", "fprop", AA): 1}  # up to the input of the second product
    )


def test_tied_embeddings(watch: Watch) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wte, self.hidden = nn.Embedding(11, 8), nn.Linear(8, 8)
            self.lm_head = nn.Linear(8, 11, bias=False)
            self.lm_head.weight = self.wte.weight

        def forward(self, i: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.lm_head(self.hidden(self.wte(i)))
            return out

    model, i = Tied(), torch.arange(8)[None]
    expected = layer("hidden") + layer("lm_head")
    assert watch(lambda: model(i).sum().backward(), model) == expected


def test_convolutions(watch: Watch) -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.Conv2d(4, 4, 3, groups=2),
        nn.ConvTranspose2d(4, 2, 2, stride=2),
        nn.Flatten(),
        nn.Linear(2 * 8 * 8, 5),
    )
    expected = layer("0", first=True) + layer("1") + layer("2") + layer("4")
    assert watch(lambda: model(random(2, 3, 6, 6)).sum().backward(), model) == expected


def test_weights_reach_their_products_through_casts_and_copies(watch: Watch) -> None:
    model = mlp()
    run = lambda: model(random(16, 8)).sum().backward()  # noqa: E731
    with torch.autocast("cpu", torch.bfloat16):
        assert watch(run, model) == MLP
    w = nn.Parameter(random(8, 8))
    mask = nn.Buffer(torch.ones(8, 8))
    copies: list[Callable[[], torch.Tensor]] = [
        lambda: w.t().contiguous(),
        lambda: torch.cat([w[:4], w[4:]]).clone(),
        lambda: F.pad(w, (0, 1))[:, :8],
        lambda: w.reshape(4, 16).t().reshape(8, 8),
        lambda: w.half().float(),
        lambda: w / torch.linalg.vector_norm(w, dim=0, keepdim=True),
        lambda: torch.stack([w, w]).mean(0),
    ]
    holder = nn.Module()
    holder.w, holder.mask = w, mask

    def of_copy(copy: Callable[[], torch.Tensor]) -> None:
        backward(F.linear(random(8, 8).requires_grad_(), copy()).sum())

    for copy in [*copies, lambda: mask * w]:
        count = watch(partial(of_copy, copy), holder)
        assert count == layer("")


class Symmetric(nn.Module):
    """A product on the way to the weight: no sum of parameters alone."""

    def forward(self, w: torch.Tensor) -> torch.Tensor:
        return w @ w.t() + w


def test_parametrized_weights(watch: Watch) -> None:
    x = random(8, 8).requires_grad_()
    wraps = (parametrizations.spectral_norm, parametrizations.weight_norm, nn.utils.weight_norm)
    models = [nn.Sequential(wrap(nn.Linear(8, 8))) for wrap in wraps]
    other = nn.Sequential(nn.Linear(8, 8))
    parametrize.register_parametrization(other[0], "weight", Symmetric())
    for model in (*models, other):
        count = watch(lambda m=model: backward(m(x).sum()), model)  # type: ignore[misc]
        assert {key: n for key, n in count.items() if key[0] == "0"} == layer("0")


def test_functional_calls(watch: Watch) -> None:
    model, x = mlp(), random(16, 8)
    values = {name: p.detach().clone() for name, p in model.named_parameters()}

    def loss(values: Any, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = functional_call(model, values, (x,)).sum()
        return out

    assert watch(lambda: grad(loss)(values, x), model) == MLP
    with torch.no_grad():
        assert watch(lambda: grad(loss)(values, x), model) == MLP
    each = vmap(grad(loss), in_dims=(None, 0))
    assert watch(lambda: each(values, random(5, 16, 8)), model) == MLP
    rows = watch(lambda: jacrev(lambda v: functional_call(model, v, (x[0],)))(values), model)
    assert rows == MLP
    parameters = dict(model.named_parameters())  # known to autograd below torch.func as well
    assert watch(lambda: grad(loss)(parameters, x), model) == MLP
    tangents = {name: v.clone() for name, v in values.items()}
    forward = watch(lambda: jvp(partial(loss, x=x), (values,), (tangents,)), model)
    each_layer = (AW, 2), (AA, 1)  # x W, x' W with x' = 0 for the first, x W'
    assert forward == Counter({(n, "fprop", k): i for n in "023" for k, i in each_layer})
    leaves = {name: v.clone().requires_grad_() for name, v in values.items()}
    assert watch(lambda: backward(loss(leaves, x)), model) == MLP


def test_transforms_and_hooks(watch: Watch) -> None:
    model = mlp()
    count = watch(lambda: vmap(model)(random(3, 16, 8)).sum().backward(), model)
    assert count == MLP

    def look(module: nn.Module, into: Any, out: Any) -> None:
        torch.mm(out[0].t(), out[0])

    model[2].register_full_backward_hook(look)
    count = watch(lambda: model(random(16, 8)).sum().backward(), model)
    hook = {key: n for key, n in count.items() if key[2] == "gradientxgradient"}
    assert list(hook.values()) == [1] and count == MLP + Counter(hook)


class Square(torch.autograd.Function):
    """(x W)^2 that keeps x and W alone, and multiplies them again in its backward."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, w)
        return torch.mm(x, w) ** 2

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> Any:
        (g,) = grad_outputs
        x, w = ctx.saved_tensors
        h = 2 * torch.mm(x, w) * g
        return h @ w.t(), x.t() @ h


def test_a_function_with_a_backward_of_its_own(watch: Watch) -> None:
    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(random(8, 8))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = Square.apply(x, self.w)  # type: ignore[no-untyped-call]
            return out

    model = nn.Sequential(Layer(), Layer())
    count = watch(lambda: model(random(8, 8).requires_grad_()).sum().backward(), model)
    assert count == layer("0") + layer("1") + Counter(
        {("0", "fprop", AW): 1, ("1", "fprop", AW): 1}
    )


@pytest.mark.parametrize("bias", [False, True])
def test_saved_tensors_that_come_back_as_copies(watch: Watch, bias: bool) -> None:
    """No storage is that of the forward pass, and no extent tells: all are 8."""
    model, x = nn.Sequential(*(nn.Linear(8, 8, bias=bias) for _ in range(3))), random(8, 8)
    hooks = torch.autograd.graph.saved_tensors_hooks(lambda v: v.clone(), lambda v: v.clone())

    def run() -> None:
        with hooks:
            loss = model(x).square().sum()
        backward(loss)

    assert watch(run, model) == layer("0", first=True) + layer("1") + layer("2")
    assert_weights_are_weights(watch, model)


def assert_weights_are_weights(watch: Watch, model: nn.Module) -> None:
    """By their values: what is called a weight is one, and nothing else is."""
    weights = [p.detach() for p in model.parameters() if p.ndim > 1]
    sums = {round(float(p.double().sum()), 6) for p in weights}
    for product, operands in zip(watch.products, watch.operands, strict=True):
        for name, operand in zip(product.names, operands, strict=True):
            assert (name == "weight") == (round(float(operand.double().sum()), 6) in sums)


def test_activations_stored_narrow_keep_their_roles(watch: Watch) -> None:
    """Backward reads what memory kept, in other storages."""
    row = {"format": "float8_e4m3fn", "scaling": "tensor"}
    watch.recipe = load_recipe("bf16", {"memory": {"activation": row}})
    model, block = nn.Sequential(*(nn.Linear(8, 8) for _ in range(3))), Block()
    expected = layer("0", first=True) + layer("1") + layer("2")
    assert watch(lambda: model(random(8, 8)).square().sum().backward(), model) == expected
    assert_weights_are_weights(watch, model)
    assert watch(lambda: block(random(2, 8, 8)).sum().backward(), block) == BLOCK
    x = random(2, 8, 8).requires_grad_()
    count = watch(lambda: checkpoint(block, x, use_reentrant=False).sum().backward(), block)
    backwards = Counter({key: n for key, n in count.items() if key[1] != "fprop"})
    assert backwards == Counter({k: n for k, n in BLOCK.items() if k[1] != "fprop"}) + Counter(
        {("qkv", "dgrad", GW): 1}
    )


def test_every_operation_of_the_backward_pass_has_its_module() -> None:
    """Also those that are no products, and the sums into `.grad`."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Tanh(), nn.LayerNorm(4)), nn.ReLU())
    phase = Phase(model)
    seen: dict[str, set[str]] = {}

    class Look(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if torch._C._current_graph_task_id() != -1:
                seen.setdefault(func.__name__.split(".")[0], set()).add(phase.module)
            return func(*args, **(kwargs or {}))

    x = random(3, 4)
    with phase.following(), Look():  # type: ignore[no-untyped-call]
        for _ in range(2):
            backward((model(x) * 2).sum())
        assert phase.module == ""
    assert seen["threshold_backward"] == {"2"} and seen["tanh_backward"] == {"1.0"}
    assert seen["native_layer_norm_backward"] == {"1.1"} and seen["mm"] == {"0"}
    assert seen["mul"] == {""} and seen["add_"] == {"0", "1.1"}


def test_inputs_that_are_parameters_are_no_weights(watch: Watch) -> None:
    model, image = nn.Linear(8, 8), nn.Parameter(random(8, 8))
    for known in (model, None):
        count = watch(lambda: model(image).sum().backward(), known)
        assert count == layer("")

    class Queries(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.queries = nn.Parameter(random(4, 8))
            self.norm, self.q, self.k = nn.LayerNorm(8), nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.softmax(self.q(self.norm(self.queries)) @ self.k(x).mT, -1)

    other = Queries()
    count = watch(lambda: backward(other(random(2, 5, 8))[..., 0].sum()), other)
    scores = Counter({("", "fprop", AA): 1, ("", "dgrad", AG): 2})
    assert count == layer("q") + layer("k", first=True) + scores


def test_several_models(watch: Watch) -> None:
    """A generator and a discriminator with an optimizer each; the graph of one outlives a step."""
    made, judged = nn.Linear(4, 8), nn.Linear(8, 1)
    optimizers = [torch.optim.AdamW(m.parameters()) for m in (made, judged)]

    def run() -> None:
        fake = made(random(6, 4))
        backward(judged(fake.detach()).sum())
        optimizers[1].step()
        backward(judged(fake).sum())
        optimizers[0].step()

    count = watch(run, nn.ModuleDict({"made": made}))
    assert count == layer("made", first=True) + layer("", 2, first=True) + Counter(
        {("", "dgrad", GW): 1}
    )


def test_a_second_derivative(watch: Watch) -> None:
    """Of sum (dy/dx)^2 through y = tanh(x W1) W2; each product once more differentiated."""
    model, x = nn.Sequential(nn.Linear(6, 7), nn.Tanh(), nn.Linear(7, 5)), random(4, 6)
    x.requires_grad_()

    def run() -> None:
        (slope,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
        backward(slope.square().sum())

    count = watch(run, model)
    first = Counter({(n, "fprop", AW): 1 for n in "02"} | {(n, "dgrad", GW): 1 for n in "02"})
    # Of slope = g W1: to g and to W1; of g = ones W2: to W2 alone. Then tanh'' leads to x W1.
    second = Counter({("0", "dgrad", GW): 1, ("0", "wgrad", AG): 1, ("2", "wgrad", AG): 1})
    outer = Counter({("0", "dgrad", GW): 1, ("0", "wgrad", AG): 1})
    assert count == first + second + outer


def test_no_model(watch: Watch) -> None:
    block = Block()
    nameless = layer("", first=True) + attention() + layer("")
    assert watch(lambda: block(random(2, 8, 8)).sum().backward()) == nameless
    w, b = random(8, 3).requires_grad_(), random(3).requires_grad_()
    count = watch(lambda: backward(torch.addmm(b, random(4, 8), w).sum()))
    assert count == layer("", first=True)


def test_products_inside_an_optimizer_step_are_the_optimizers(watch: Watch) -> None:
    model = nn.Linear(64, 64)
    opt = Shampoo4bit(model.parameters(), statistics_every=1, roots_every=1)
    backward(model(random(8, 64)).sum())
    assert {key[1] for key in watch(opt.step, model)} == {"optimizer"}

    class Plain(torch.optim.Optimizer):
        """Without a no_grad of its own."""

        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            for p in self.param_groups[0]["params"]:
                if p.ndim == 2:
                    p.data -= 0.1 * (p.grad @ p.grad.t() @ p.data)

    count = watch(Plain(model.parameters(), {}).step, model)
    assert set(count) == {("", "optimizer", "optimizerxoptimizer")}


def test_a_closure_inside_an_optimizer_step_has_its_own_roles(watch: Watch) -> None:
    model = mlp()
    opt = torch.optim.LBFGS(model.parameters(), max_iter=2)

    def closure() -> torch.Tensor:
        opt.zero_grad()
        loss: torch.Tensor = model(random(4, 8)).square().sum()
        backward(loss)
        return loss

    count = watch(lambda: opt.step(closure), model)  # type: ignore[no-untyped-call]
    products = Counter({key: n for key, n in count.items() if key[1] != "optimizer"})
    times = products["0", "fprop", AW]
    assert times >= 2 and products == Counter({key: times * n for key, n in MLP.items()})


def test_formats_follow_the_roles() -> None:
    w = nn.Linear(4, 3, bias=False)
    x = random(5, 4).requires_grad_()
    with emulate(H100, FP8, model=w) as trace:
        torch.autograd.grad(w(x), [x, w.weight], random(5, 3))
    formats = {(r["gemm"], r["operand"]): r["format"] for r in trace.take()}
    assert formats["dgrad", "gradient"] == formats["wgrad", "gradient"] == "float8_e5m2"
    assert formats["wgrad", "activation"] == formats["dgrad", "weight"] == "float8_e4m3fn"


def test_memory_of_products_is_bounded(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    from tapeout.simulator.roles import records

    monkeypatch.setattr(records, "NODES", 32)
    monkeypatch.setattr(records, "PINS", 64)
    made: list[Any] = []
    start = records.Records.__init__

    def begin(self: Any) -> None:
        made.append(self)
        start(self)

    monkeypatch.setattr(records.Records, "__init__", begin)
    model = mlp()

    def run() -> None:
        for seed in range(100):
            backward(model(random(4, 8, seed=seed)).sum())
            watch.operands.clear()
        with torch.no_grad():
            for seed in range(200):
                model(random(4, 8, seed=seed))
                watch.operands.clear()

    assert watch(run, model) == Counter(
        {key: 100 * n + 200 * (key[1] == "fprop") for key, n in MLP.items()}
    )
    (kept,) = made
    assert len(kept._uses) <= 64 and max(map(len, kept._uses.values())) <= 256
    assert len(kept._pins) <= 2 * 64 + 256 + 64
