"""Torch-operation twins against the CPU kernels and references, and the straight-through gradient.

Every test of rounding and codes runs on the CPU, and again on CUDA where there is one.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tapeout.formats import (
    FloatFormat,
    InputError,
    Rounding,
    Stochastic,
    decode,
    encode,
    get_format,
    list_formats,
    quantize,
)
from tapeout.formats.autograd import straight_through, value_range
from tapeout.formats.device.bits import LAYOUTS
from tapeout.formats.device.codes import decode_on_device, encode_on_device
from tapeout.formats.device.random import draw_integers
from tapeout.formats.device.rounding import grid_fits, quantize_on_device
from tapeout.formats.random import philox_reference
from tapeout.formats.reference import quantize_exact
from tapeout.formats.rounding import Overflow

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
DETERMINISTIC = [r.value for r in Rounding if r is not Rounding.STOCHASTIC]
RULES = [Stochastic(k, rule) for k in (1, 8, 32) for rule in ("srff", "srf", "src")]
#: Formats that the grid kernels round to; those that go through a table of values have no twin.
GRIDDED = [
    name
    for name in list_formats()
    if hasattr(get_format(name), "grid") and not getattr(get_format(name), "tabled", False)
]
NAMES = [*GRIDDED, "e4m3fnuz", "e2m2fn", "e5m7", "e11m40", "int6", "uint5"]


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    """Where the twin runs."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device in this machine")
    return str(request.param)


def row(name: str) -> Any:
    """A format with a grid."""
    fmt = get_format(name)
    assert hasattr(fmt, "grid")
    return fmt


def hard_values(dtype: type[np.floating[Any]], count: int = 300) -> np.ndarray:
    """Any bits, ties, subnormals of the dtype, infinities, NaN, both zeros."""
    rng = np.random.default_rng(11)
    double = dtype is np.float64
    bits = rng.integers(0, 2**64 if double else 2**32, count, dtype=np.uint64)
    spread = rng.standard_normal(count) * 2.0 ** rng.integers(-20, 20, count)
    ties = rng.integers(-4000, 4000, count) / 16
    special = [0.0, -0.0, math.inf, -math.inf, math.nan, 5e-324, -1e-45, 2.0**-126, -(2.0**-127)]
    with np.errstate(over="ignore"):
        rest = np.concatenate([spread, ties, special]).astype(dtype)
    return np.concatenate([bits.astype(np.uint64 if double else np.uint32).view(dtype), rest])


def bits_of(x: np.ndarray) -> np.ndarray:
    """The bits, every NaN alike."""
    quiet = np.where(np.isnan(x), x.dtype.type(np.nan), x)
    return quiet.view(f"u{x.dtype.itemsize}")


def assert_same(got: Tensor, want: np.ndarray, x: np.ndarray) -> None:
    mine = got.cpu().numpy()
    assert mine.dtype == want.dtype
    differ = np.flatnonzero(bits_of(mine) != bits_of(want))
    assert differ.size == 0, [(x[i], mine[i], want[i]) for i in differ[:3]]


def cases(name: str) -> Iterator[tuple[np.ndarray, Any, str]]:
    """(x, rounding, overflow) of what the format takes; stochastic rules saturate."""
    fmt = row(name)
    for dtype in (np.float32, np.float64):
        if dtype is np.float32 and not grid_fits(fmt.grid, LAYOUTS[torch.float32]):
            continue
        x = hard_values(dtype)
        x = x if fmt.grid.has_nan else x[~np.isnan(x)]
        for rounding in [*DETERMINISTIC, *RULES]:
            yield x, rounding, "saturate"
        for rounding in [*DETERMINISTIC, RULES[0]] if fmt.grid.has_nan else []:
            yield x, rounding, "infinity"
        if fmt.grid.has_nan:
            yield x, "up", "nan"


@pytest.mark.parametrize("name", NAMES)
def test_rounding_and_codes_equal_the_kernels_to_the_bit(name: str, device: str) -> None:
    fmt, rng = row(name), np.random.default_rng(5)
    for x, rounding, policy in cases(name):
        bits = rounding.bits if isinstance(rounding, Stochastic) else 0
        drawn = rng.integers(0, 2**bits, x.shape) if bits else None
        random = None if drawn is None else torch.from_numpy(drawn).to(device)
        tensor = torch.from_numpy(x).to(device)
        want = quantize(x, name, rounding=rounding, overflow=policy, random_bits=drawn)
        got = quantize_on_device(tensor, fmt.grid, rounding, policy, random)
        assert got.device.type == device
        assert_same(got, want, x)
        if rounding not in ("nearest_even", "to_odd"):
            continue
        kept = ~np.isnan(x) if name == "float64" else np.ones(x.shape, bool)
        codes = encode(x, name, rounding=rounding, overflow=policy, random_bits=drawn)
        mine = encode_on_device(tensor, fmt, rounding, policy, random).cpu().numpy()
        assert mine.dtype == codes.dtype and (mine == codes)[kept].all()


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e8m0fnu", "bfloat16", "e5m7", "uint5"])
def test_rounding_equals_the_exact_reference(name: str, device: str) -> None:
    fmt = row(name)
    x = hard_values(np.float32, 150)
    x = x if fmt.grid.has_nan else x[~np.isnan(x)]
    roundings: list[Rounding | Stochastic] = [*map(Rounding, DETERMINISTIC), *RULES]
    for rounding in roundings:
        drawn = np.zeros(x.shape, np.int64)
        if isinstance(rounding, Stochastic):
            drawn = np.random.default_rng(1).integers(0, 2**rounding.bits, x.shape)
        got = quantize_on_device(
            torch.from_numpy(x).to(device),
            fmt.grid,
            rounding,
            random=torch.from_numpy(drawn).to(device),
        )
        want = [
            quantize_exact(float(v), fmt, rounding, Overflow.SATURATE, int(r))
            for v, r in zip(x, drawn, strict=True)
        ]
        assert_same(got, np.array(want, np.float32), x)


@pytest.mark.parametrize("name", ["int2", "int4", "int8", "uint5", "int32"])
def test_integers_wrap_as_the_reference(name: str, device: str) -> None:
    fmt = row(name)
    x = hard_values(np.float64, 300)
    x = x[np.isfinite(x)]
    got = quantize_on_device(torch.from_numpy(x).to(device), fmt.grid, overflow="wrap")
    want = [quantize_exact(v, fmt, Rounding.NEAREST_EVEN, Overflow.WRAP) for v in x.tolist()]
    assert_same(got, np.array(want), x)


@pytest.mark.parametrize("name", NAMES)
def test_codes_decode_as_on_the_cpu(name: str, device: str) -> None:
    fmt = row(name)
    kind = next(d for w, d in ((8, np.uint8), (16, np.uint16), (32, np.uint32), (64, np.uint64))
                if fmt.bits <= w)  # fmt: skip
    rng = np.random.default_rng(2)
    codes = (
        np.arange(2**fmt.bits, dtype=kind)
        if fmt.bits <= 16
        else rng.integers(0, 2**fmt.bits, 4000, dtype=np.uint64).astype(kind)
    )
    with np.errstate(over="ignore"):
        want = decode(codes, name)
    assert_same(decode_on_device(torch.from_numpy(codes).to(device), fmt), want, codes)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bit_tensors_are_rounded_once_and_stay_what_they_are(
    dtype: torch.dtype, device: str
) -> None:
    every = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype)
    for name in ("e5m2", "e3m2", "int4"):
        fmt = row(name)
        x = every if fmt.grid.has_nan else every[~every.isnan()]
        for rounding in ("nearest_even", "up"):
            got = quantize_on_device(x.to(device), fmt.grid, rounding)
            assert got.dtype is dtype
            want = quantize(x.float(), name, rounding=rounding).to(dtype)
            assert_same(got.float(), want.float().numpy(), x.float().numpy())
    for name in ("float32", "int16", "bfloat16" if dtype is torch.float16 else "float16"):
        with pytest.raises(InputError, match=f"{dtype} cannot hold every value of {name}; pass x"):
            quantize_on_device(every, row(name).grid, name=name)


def test_unsigned_formats_have_one_infinity(device: str) -> None:
    """What lies below zero is NaN, not an infinity of a sign that is not there."""
    fmt = FloatFormat("unsigned", 4, 3, signed=False)
    x = torch.tensor([1e9, -1.0, -0.0, -math.inf], device=device)
    got = quantize_on_device(x, fmt.grid, overflow="infinity").tolist()
    assert got[0] == math.inf and math.isnan(got[1]) and got[2] == 0 and math.isnan(got[3])
    assert quantize_on_device(x, fmt.grid).tolist() == [240.0, 0.0, 0.0, 0.0]


def lane_reference(seed: int, stream: int, index: int, bits: int) -> int:
    """One random integer, from the published words and the layout, in Python integers."""
    width = 8 if bits <= 8 else 16 if bits <= 16 else 32
    block, lane = divmod(index, 128 // width)
    counter = (block % 2**32, block >> 32, stream % 2**32, stream >> 32)
    words = philox_reference(counter, (seed % 2**32, seed >> 32))
    whole: int = sum(word << (32 * n) for n, word in enumerate(words))
    return (whole >> (width * lane) & ((1 << width) - 1)) >> (width - bits)


@pytest.mark.parametrize("bits", [1, 5, 8, 9, 16, 17, 24, 32])
@pytest.mark.parametrize(("seed", "stream"), [(0, 0), (2**40 + 5, 9), (2**64 - 1, 2**64 - 1)])
def test_random_integers_are_those_of_the_layout(
    bits: int, seed: int, stream: int, device: str
) -> None:
    drawn = draw_integers((3, 67), bits, seed, stream, device)
    assert drawn.shape == (3, 67) and drawn.device.type == device
    want = [lane_reference(seed, stream, i, bits) for i in range(201)]
    assert drawn.flatten().tolist() == want


@pytest.mark.parametrize("rounding", [Stochastic(20), Stochastic(24, "src"), Stochastic()], ids=str)
def test_a_seed_selects_the_bits_of_the_cpu(rounding: Stochastic, device: str) -> None:
    x = torch.randn(7, 31, generator=torch.Generator().manual_seed(0))
    got = quantize_on_device(x.to(device), row("e4m3").grid, rounding, seed=2**50, stream=3)
    assert torch.equal(got.cpu(), quantize(x, "e4m3", rounding=rounding, seed=2**50, stream=3))


def test_strides_shapes_and_the_graph(device: str) -> None:
    x = torch.randn(6, 5, 4, device=device, requires_grad=True)
    grid = row("e4m3").grid
    for view in (x, x.mT, x[::2, :, 1:], x[1:1], x[0, 0, 0]):
        got = quantize_on_device(view, grid)
        assert got.shape == view.shape and not got.requires_grad
        assert torch.equal(got, quantize_on_device(view.detach().clone(), grid))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: quantize_on_device(torch.ones(2, dtype=torch.int64), row("int4").grid),
         ["torch.int64", "torch.float32"]),
        (lambda: quantize_on_device(torch.ones(2), row("float64").grid, name="float64"),
         ["torch.float32 cannot hold", "float64", "x.double()"]),
        (lambda: quantize_on_device(torch.tensor([math.nan]), row("int4").grid, name="int4"),
         ["1 NaN", "int4"]),
        (lambda: quantize_on_device(torch.ones(1), row("e4m3").grid, overflow="wrap", name="e4m3"),
         ["wrap", "integers", "e4m3"]),
        (lambda: quantize_on_device(torch.tensor([math.inf]), row("int4").grid, overflow="wrap"),
         ["infinity", "wrap"]),
        (lambda: quantize_on_device(torch.ones(1), row("e2m1").grid, overflow="nan", name="e2m1"),
         ["e2m1", "no code", "saturate"]),
        (lambda: quantize_on_device(torch.ones(2), row("e4m3").grid, Stochastic(4),
                                    random=torch.tensor([0, 16])), ["0 to 16", "0 to 15"]),
        (lambda: quantize_on_device(torch.ones(2), row("e4m3").grid, Stochastic(4),
                                    random=torch.tensor([1])), ["integers of shape (2,)"]),
        (lambda: decode_on_device(torch.tensor([16], dtype=torch.uint8), row("int4")),
         ["16", "0 to 15", "int4"]),
        (lambda: decode_on_device(torch.tensor([1]), row("int4")), ["int64", "unsigned"]),
        (lambda: straight_through(torch.ones(1), "e4m3", rounding="nearest"), ['"nearest"']),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence(call, words) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError) as refusal:
        call()
    message = str(refusal.value)
    assert "\n" not in message and all(word in message for word in words), message


OUTSIDE = [449.0, -1e9, math.inf, -math.inf]
INSIDE = [0.3, 0.0, -0.0, 448.0, -448.0, 1e-30, math.nan]


@pytest.mark.parametrize("clipped", [False, True])
def test_straight_through_rounds_forward_and_passes_or_masks_back(clipped: bool) -> None:
    x = torch.tensor(INSIDE + OUTSIDE, requires_grad=True)
    y = straight_through(x, "e4m3", clipped)
    assert_same(y.detach(), quantize(x.detach(), "e4m3").numpy(), x.detach().numpy())
    weights = torch.arange(1.0, len(x) + 1)
    (y * weights).sum().backward()  # type: ignore[no-untyped-call]
    kept = torch.tensor([True] * len(INSIDE) + [not clipped] * len(OUTSIDE))
    assert x.grad is not None and torch.equal(x.grad, torch.where(kept, weights, 0.0))
    assert not straight_through(x.detach(), "e4m3", clipped).requires_grad


def test_straight_through_takes_the_options_of_quantize() -> None:
    x = torch.randn(50, requires_grad=True)
    options: dict[str, Any] = {"rounding": Stochastic(4), "seed": 7, "stream": 2}
    y = straight_through(x, "e5m2", **options)
    assert torch.equal(y, quantize(x.detach(), "e5m2", **options))
    y.sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None and torch.equal(x.grad, torch.ones(50))


def test_jacobians_are_the_identity_or_the_mask_both_ways_and_again() -> None:
    x = torch.tensor([0.3, 500.0, -2.7, -1e4], dtype=torch.float64)

    def clipped(t: Tensor) -> Tensor:
        return straight_through(t, "e4m3", clipped=True)

    want = torch.diag(torch.tensor([1.0, 0.0, 1.0, 0.0], dtype=torch.float64))
    assert torch.equal(torch.func.jacrev(clipped)(x), want)
    assert torch.equal(torch.func.jacfwd(clipped)(x), want)
    hessian = torch.func.hessian(lambda t: clipped(t).square().sum())(x)
    assert torch.equal(torch.as_tensor(hessian), 2 * want)


@pytest.mark.parametrize("dim", [0, 1])
def test_vmap_rounds_the_batch_as_one_tensor(dim: int) -> None:
    x = torch.randn(4, 3) * 300

    def once(t: Tensor) -> Tensor:
        return straight_through(t, "e4m3", True, rounding="stochastic", seed=3)

    assert torch.equal(torch.func.vmap(once, dim, dim)(x), once(x))
    each = torch.func.vmap(torch.func.grad(lambda t: once(t).sum()))(x)
    assert torch.equal(each, (x.abs() <= 448).float())
    with pytest.raises(InputError, match="random_bits"):
        torch.func.vmap(
            lambda t: straight_through(
                t, "e4m3", rounding=Stochastic(4), random_bits=np.zeros(3, np.int64)
            )
        )(x)


def test_straight_through_trains_what_plain_rounding_cannot() -> None:
    """Least squares with a rounded weight: the gradient arrives, the loss reaches the grid's."""
    torch.manual_seed(0)
    x, weight = torch.randn(64, 4), torch.zeros(4, requires_grad=True)
    target = x @ torch.tensor([0.5, -1.0, 0.25, 2.0])
    loss = torch.tensor(math.inf)
    for _ in range(200):
        loss = (x @ straight_through(weight, "e2m1") - target).square().mean()
        (gradient,) = torch.autograd.grad(loss, weight)
        with torch.no_grad():
            weight -= 0.05 * gradient
    assert float(loss.detach()) < 0.1 < float(target.square().mean())
    assert not quantize(weight, "e2m1").requires_grad


@pytest.mark.parametrize("name", [n for n in list_formats() if get_format(n).bits < 64])
def test_ranges_are_what_saturates(name: str) -> None:
    far = np.array([-1e300, 1e300])
    # Codewords that are no float32 are rounded to one when they are decoded.
    assert value_range(get_format(name)) == pytest.approx(quantize(far, name).tolist(), rel=1e-7)
