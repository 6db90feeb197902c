"""Operations of ordinary programs, forward and backward, on the vector unit."""

import copy
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tapeout.formats import InputError, quantize
from tapeout.simulator import emulate, load_chip, load_recipe, register_op
from tapeout.simulator.chip import Chip, ChipTable
from tapeout.simulator.tables import checked
from tapeout.tests.operation_cases import CASES, LAYERS

H100, FLOAT64, FP32 = load_chip("nvidia-h100"), load_chip("ieee-float64"), load_recipe("fp32")
ROLES = ("weight", "activation", "gradient", "attention", "optimizer", "exempt")
FP64 = load_recipe("fp32", {role: {"format": "float64"} for role in ROLES})
EVIDENCE = [{"of": ["*"], "basis": "assumed", "source": "a test"}]


def with_vector_unit(**unit: Any) -> Chip:
    """The H100 with another vector unit."""
    table = copy.deepcopy(H100.table) | {"vector_unit": unit | {"evidence": EVIDENCE}}
    return Chip(checked(ChipTable, table, "a test"), table, "a test")


NARROW = with_vector_unit(format="bfloat16", accumulator="bfloat16", rounding="toward_zero")


def run(name: str, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """The result of a case and its gradient."""
    f, start = CASES[name]
    x = start.clone().to(dtype).requires_grad_()
    y = f(x)
    weights = torch.linspace(0.5, 1.5, y.numel()).reshape(y.shape).to(dtype)
    (y * weights).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    return y.detach(), x.grad


@pytest.mark.parametrize("name", CASES)
def test_float32_is_near_plain_torch_and_nothing_is_left_to_the_host(name: str) -> None:
    plain = run(name)
    with emulate(H100, FP32) as trace:
        emulated = run(name)
    for a, b in zip(plain, emulated, strict=True):
        assert torch.allclose(a, b, rtol=3e-5, atol=3e-5, equal_nan=True)
    coverage = trace.coverage()
    assert not coverage["native"]
    assert coverage["bit_exact"] or coverage["rounded_once"]


@pytest.mark.parametrize("name", CASES)
def test_every_result_of_a_narrow_unit_is_of_its_format(name: str) -> None:
    """Rounded toward zero to 8 bits: a step that did not round would show."""
    with emulate(NARROW, FP32):
        y, _ = run(name)
    moved = name in ("extremes", "windows", "unfold", "reflect", "replicate", "mask", "einsum",
                     "nearest", "nearest_exact", "dropout", "attention", "encoder", "sorted",
                     "embedding", "embedding_by_frequency")  # fmt: skip
    if not moved and "pool" not in name and "max" not in name:
        assert torch.equal(y.nan_to_num(), quantize(y.nan_to_num(), "bfloat16"))


@pytest.mark.parametrize(
    "name", [n for n in CASES if n not in ("cdist", "avg_pool3d", "remainders")]
)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_tensors_are_computed_in_the_unit_and_stored_in_their_dtype(
    name: str, dtype: torch.dtype
) -> None:
    try:
        plain = run(name, dtype)
    except (RuntimeError, NotImplementedError) as error:
        pytest.skip(f"plain PyTorch: {error}")
    finally:
        _restore_layers()
    with emulate(H100, FP32) as trace:
        emulated = run(name, dtype)
    _restore_layers()
    for a, b in zip(plain, emulated, strict=True):
        assert a.dtype == b.dtype
        scale = a.float().abs().max().item() + 1
        tolerance = {torch.bfloat16: 0.06, torch.float16: 0.01}[dtype]
        assert torch.allclose(a.float(), b.float(), atol=tolerance * scale, equal_nan=True)
    assert not trace.coverage()["native"]


def _restore_layers() -> None:
    for name in LAYERS:
        closure = CASES[name][0].__closure__
        for cell in closure or ():
            if isinstance(cell.cell_contents, nn.Module):
                cell.cell_contents.float()


def test_a_step_of_a_16_bit_tensor_is_one_rounding_of_the_float32_result() -> None:
    x = torch.randn(2000, generator=torch.Generator().manual_seed(1)).bfloat16()
    wide = x.float()
    with emulate(H100, FP32):
        assert torch.equal(F.silu(x), (wide * torch.sigmoid(wide.double()).float()).bfloat16())
        assert torch.equal(torch.exp(x), torch.exp(wide.double()).float().bfloat16())
        assert x.sum().dtype == torch.bfloat16
        assert torch.equal(x.sum(), x.float().sum().bfloat16())
        assert x.float().sum() == x.sum(dtype=torch.float32)
        assert torch.equal(x + wide * 2, wide + wide * 2)


def test_programs_in_bfloat16_train() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(16, 8), torch.arange(16) % 4
    for autocast in (False, True):
        model = nn.Sequential(nn.Linear(8, 32), nn.LayerNorm(32), nn.GELU(), nn.Linear(32, 4))
        model = model if autocast else model.bfloat16()
        opt = torch.optim.AdamW(model.parameters(), lr=1e-2)
        losses = []
        with emulate(H100, FP32, model=model) as trace:
            for _ in range(8):
                with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                    loss = F.cross_entropy(model(x if autocast else x.bfloat16()), y)
                opt.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                opt.step()
                losses.append(loss.item())
        assert losses[-1] < 0.9 * losses[0]
        assert not trace.coverage()["native"]


def net() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(2, 3, 3, padding=1), nn.GELU(), nn.Flatten(), nn.Linear(12, 5), nn.LayerNorm(5),
        nn.Linear(5, 3), nn.Softmax(-1),
    )  # fmt: skip


def test_gradients_pass_gradcheck_on_the_float64_machine() -> None:
    torch.manual_seed(0)
    model = net().double()
    x = torch.randn(2, 2, 4, dtype=torch.float64, requires_grad=True)
    with emulate(FLOAT64, FP64, model=model) as trace:
        assert torch.autograd.gradcheck(model, (x,), eps=1e-6, atol=1e-7)
        out = model(x)
    assert out.dtype == torch.float64
    assert torch.allclose(out, model(x), rtol=1e-13, atol=1e-14)
    assert "add" in trace.coverage()["bit_exact"]
    assert not any("float" in name for name in trace.coverage()["native"])


def test_float64_tensors_are_left_to_the_host_by_a_narrower_unit() -> None:
    x = torch.randn(5, dtype=torch.float64)
    with emulate(H100, FP32) as trace:
        assert torch.equal(torch.exp(x) + x, torch.exp(x) + x)
        assert torch.sum(x.float(), 0, dtype=torch.float64).dtype == torch.float64
    assert set(trace.coverage()["native"]) >= {"add (float64)", "exp (float64)"}


def test_complex_tensors_are_refused() -> None:
    x = torch.ones(3, dtype=torch.complex64)
    with emulate(H100, FP32), pytest.raises(InputError, match=r"complex64.*real and imaginary"):
        x * x
    with emulate(H100, FP32), pytest.raises(InputError, match="aten::_fft_r2c"):
        torch.fft.rfft(torch.ones(4))


class Inner(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = torch.special.bessel_j0(x)
        return y


def test_a_refusal_names_operation_line_and_module() -> None:
    model = nn.Sequential(nn.Linear(3, 3), Inner())
    line = Inner.forward.__code__.co_firstlineno + 1
    place = rf"aten::special_bessel_j0.*test_operations\.py:{line}, in module 1,.*register_op"
    with emulate(H100, FP32, model=model), pytest.raises(InputError, match=place):
        model(torch.ones(2, 3))
    grid = torch.zeros(1, 2, 2, 2)
    with emulate(H100, FP32), pytest.raises(InputError, match="aten::grid_sampler_2d"):
        F.grid_sample(torch.ones(1, 1, 3, 3), grid, align_corners=False)


def test_an_operation_that_writes_declares_itself() -> None:
    with torch.library._scoped_library("tapeout_written", "DEF") as library:
        library.define("halve_(Tensor(a!) x) -> ()")
        library.impl("halve_", lambda x: x.mul_(0.5), "CPU")
        operation = torch.ops.tapeout_written.halve_

        @register_op("tapeout_written::halve", writes=True)
        def halve(x: Tensor) -> None:
            x.mul_(0.5)

        x = torch.ones(3)
        with emulate(H100, FP32) as trace:
            operation(x)
        assert x.tolist() == [0.5] * 3
        assert trace.coverage()["bit_exact"] == {"mul": 1}


FUSED: dict[str, Any] = {
    "adam": lambda p, fused: torch.optim.Adam(p, weight_decay=0.1, amsgrad=True, fused=fused),
    "adamw": lambda p, fused: torch.optim.AdamW(p, lr=1e-2, fused=fused),
    "sgd": lambda p, fused: torch.optim.SGD(
        p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1, fused=fused
    ),
    "sgd_plain": lambda p, fused: torch.optim.SGD(p, lr=0.1, maximize=True, fused=fused),
    "adagrad": lambda p, fused: torch.optim.Adagrad(p, lr=0.1, lr_decay=0.1, fused=fused),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", FUSED)
def test_fused_optimizers_step_as_plain_torch(name: str, dtype: torch.dtype) -> None:
    ends = []
    for emulated in (False, True):
        p = nn.Parameter(torch.linspace(-1, 1, 33).to(dtype))
        opt: Any = FUSED[name]([p], emulated)

        def steps(p: nn.Parameter = p, opt: Any = opt) -> None:
            for step in range(5):
                generator = torch.Generator().manual_seed(step)
                p.grad = torch.randn(33, generator=generator).to(dtype)
                opt.step()

        if emulated:
            with emulate(H100, FP32) as trace:
                steps()
            assert not trace.coverage()["native"]
        else:
            steps()
        ends.append(p.detach().float())
    tolerance = 2e-6 if dtype == torch.float32 else 2e-2
    assert torch.allclose(ends[0], ends[1], rtol=tolerance, atol=tolerance)
    assert not torch.allclose(ends[0], torch.linspace(-1, 1, 33), atol=1e-3)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "adagrad"])
def test_lists_and_single_tensors_step_to_the_same_bits(name: str) -> None:
    ends = []
    for foreach in (False, True):
        parameters = [nn.Parameter(torch.linspace(-1, 1, n)) for n in (5, 9)]
        make: Any = {
            "adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD,
            "adagrad": torch.optim.Adagrad,
        }[name]  # fmt: skip
        opt = make(parameters, foreach=foreach)
        with emulate(H100, FP32):
            for step in range(3):
                for p in parameters:
                    p.grad = torch.cos(p.detach() * (step + 1))
                opt.step()
        ends.append(torch.cat([p.detach() for p in parameters]))
    assert torch.allclose(ends[0], ends[1], rtol=1e-6, atol=1e-7)


def test_running_statistics_are_updated_in_place() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        norms = [nn.BatchNorm2d(6).to(dtype) for _ in range(2)]
        x = torch.randn(4, 6, 3, 3, generator=torch.Generator().manual_seed(0)).to(dtype)
        for _ in range(3):
            norms[0](x)
            with emulate(H100, FP32):
                norms[1](x)
        for a, b in zip(norms[0].buffers(), norms[1].buffers(), strict=True):
            assert torch.allclose(
                a.float(), b.float(), rtol=2e-2 if dtype == torch.bfloat16 else 1e-5
            )
        running = norms[1].running_var
        assert running is not None and not torch.equal(running, torch.ones(6, dtype=dtype))


def test_written_results_and_in_place_forms() -> None:
    x, out = torch.rand(4) + 0.5, torch.empty(0)
    expected = torch.exp(x.double()).float()
    with emulate(H100, FP32):
        torch.exp(x, out=out)
        assert torch.equal(out, expected)
        y = x.clone()
        assert torch.equal(y.exp_(), expected) and torch.equal(y, expected)
        z = x.clone().pow_(3)
        assert torch.equal(z, (x.double() ** 3).float())
        assert torch.equal(x.clone().addcmul_(x, x), x + x * x)
    with emulate(NARROW, FP32):
        w = x.clone()
        w.add_(x).mul_(3)
        first = quantize(x + x, "bfloat16", rounding="toward_zero")
        assert torch.equal(w, quantize(first * 3, "bfloat16", rounding="toward_zero"))


def test_a_stochastic_unit_is_reproducible_and_unbiased_by_construction() -> None:
    chip = with_vector_unit(
        format="bfloat16", accumulator="float32", accumulator_rounding="nearest_even",
        rounding="stochastic", random_bits=8, rule="srff",
    )  # fmt: skip
    x = torch.full((4000,), 1.0)

    def sums(seed: int) -> Tensor:
        with emulate(chip, FP32, seed=seed):
            return x + 2.0**-10

    assert torch.equal(sums(1), sums(1)) and not torch.equal(sums(1), sums(2))
    ups = (sums(1) > 1).float().mean().item()
    assert abs(ups - 0.125) < 0.03  # 2^-10 is an eighth of the spacing 2^-7
    assert set(sums(1).tolist()) == {1.0, 1.0 + 2.0**-7}


def test_flushing_units_read_and_write_zeros_for_subnormals() -> None:
    chip = with_vector_unit(format="float32", accumulator="float32", flush="both")
    tiny = torch.tensor([1e-40, -1e-40, 2e-38])
    with emulate(chip, FP32):
        assert (tiny * 1).tolist()[:2] == [0.0, -0.0]
        assert torch.equal(torch.signbit(tiny * 1), torch.signbit(tiny))
        assert (tiny[2] * 0.25).item() == 0.0
        assert torch.log(tiny)[0].item() == -torch.inf
        assert (tiny[:2].sum() + tiny[0]).item() == 0.0


warnings.filterwarnings("ignore", message="dropout option adds dropout")
