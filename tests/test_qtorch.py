"""QPyTorch: its numbers as formats, its functions by name, and itself as an oracle where right.

What tapeout computes is tested without qtorch. The rest, held against qtorch 0.3.0 on the CPU,
skips where qtorch is not installed or cannot be built; each case of what qtorch does otherwise is
a line of docs/qpytorch.md.
"""

import importlib
import math
import os
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tapeout.formats import FloatFormat, InputError, get_format, quantize
from tapeout.formats.qpytorch import (
    BlockFloatingPoint,
    FixedPoint,
    FloatingPoint,
    Quantizer,
    block_quantize,
    fixed_point_quantize,
    float_quantize,
    quantizer,
)
from tapeout.formats.qtorch.numbers import from_qtorch, is_qtorch
from tapeout.formats.qtorch.rounding import round_blocks
from tapeout.formats.rounding import get_rounding

FLOATS = [(4, 3), (5, 2), (3, 2), (2, 1), (5, 10), (8, 7), (6, 9)]
FIXED = [(8, 4, True, False), (8, 4, True, True), (16, 8, True, False), (8, 4, False, False),
         (4, 10, True, False)]  # fmt: skip
BLOCKS = [(wl, dim) for wl in (2, 4, 6) for dim in (-1, 0, 1, 2)]


@pytest.fixture(scope="module")
def theirs() -> Any:
    """qtorch.quant, which compiles itself on first import."""
    pytest.importorskip("qtorch", reason="qtorch is not installed: pip install tapeout[qtorch]")
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # ninja
    try:
        return importlib.import_module("qtorch.quant")
    except Exception as error:  # whatever the compiler ends with
        pytest.skip(f"qtorch cannot be built here: {str(error).splitlines()[0]}")


def spread(count: int = 20_000) -> Tensor:
    rng = np.random.default_rng(4)
    return torch.from_numpy(
        (rng.standard_normal(count) * 2.0 ** rng.integers(-12, 9, count)).astype(np.float32)
    )


def exact_steps(x: Tensor, quantum: Fraction, low: Fraction, high: Fraction) -> list[float]:
    """x over the quantum to the nearest integer, ties to even, times it, within the range."""
    found = []
    for value in x.flatten().tolist():
        steps = round(Fraction(value) / quantum)  # round() of a Fraction ties to even
        found.append(float(min(max(steps * quantum, low), high)))
    return found


@pytest.mark.parametrize(
    ("number", "name"),
    [(FloatingPoint(4, 3), "float8_e4m3fn"), (FloatingPoint(5, 2), "float8_e5m2"),
     (FloatingPoint(8, 7), "bfloat16"), (FloatingPoint(5, 10), "float16"),
     (FloatingPoint(8, 23), "float32"), (FloatingPoint(8, 10), "tfloat32"),
     (FloatingPoint(2, 1), "float4_e2m1fn"), (FloatingPoint(6, 9), "e6m9"),
     (FloatingPoint(1, 2), "e1m2fn")],
)  # fmt: skip
def test_floating_points_are_formats_wherever_a_format_is(number: Any, name: str) -> None:
    assert is_qtorch(number) and from_qtorch(number) == get_format(name) == get_format(number)
    x = spread(500)
    assert torch.equal(quantize(x, number), quantize(x, name))


def test_numbers_of_qtorch_itself_are_known_by_type_without_an_import() -> None:
    qtorch = pytest.importorskip("qtorch", reason="qtorch is not installed")
    assert get_format(qtorch.FloatingPoint(4, 3)) is get_format("e4m3")
    assert is_qtorch(qtorch.FixedPoint(8, 4)) and is_qtorch(qtorch.BlockFloatingPoint(8))
    assert not is_qtorch("e4m3") and not is_qtorch(get_format("e4m3"))


def test_importing_tapeout_imports_no_qtorch() -> None:
    code = "import sys, tapeout.formats, tapeout.formats.qpytorch as q, torch\n"
    code += "q.quantizer(q.FloatingPoint(4, 3))(torch.ones(2))\n"
    code += "print([m for m in sys.modules if m.startswith('qtorch')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("wl", "fl", "clamp", "symmetric"), FIXED)
def test_fixed_point_rounds_as_fractions_do(wl: int, fl: int, clamp: bool, symmetric: bool) -> None:
    x = torch.cat([spread(400), torch.arange(-300, 300) / 2.0 ** (fl + 1)])
    quantum, top = Fraction(1, 2**fl), Fraction(2) ** (wl - fl - 1)
    low, high = (-top + quantum if symmetric else -top), top - quantum
    if not clamp:
        low, high = Fraction(-(10**40)), Fraction(10**40)
    got = fixed_point_quantize(x, wl, fl, clamp, symmetric, "nearest")
    assert got.tolist() == exact_steps(x, quantum, low, high)


@pytest.mark.parametrize(("wl", "dim"), [*BLOCKS, (23, 0), (32, -1)])
def test_blocks_round_as_fractions_do(wl: int, dim: int) -> None:
    x = spread(4 * 5 * 6).reshape(4, 5, 6)
    got = block_quantize(x, wl, dim, "nearest")
    parts = [(x, got)] if dim < 0 else list(zip(x.unbind(dim), got.unbind(dim), strict=True))
    for values, rounded in parts:
        largest = float(values.abs().max())
        quantum = Fraction(2) ** (math.frexp(largest)[1] - 1 - (wl - 2))
        end = (2 ** (wl - 1) - 1) * quantum
        assert rounded.flatten().tolist() == exact_steps(values, quantum, -end, end)


def test_blocks_take_every_rounding() -> None:
    x = torch.tensor([8.0, 0.5, -0.5, 1.25, -1.25])  # the quantum is 1
    want = {"up": [8, 1, 0, 2, -1], "down": [8, 0, -1, 1, -2], "toward_zero": [8, 0, 0, 1, -1],
            "nearest_away": [8, 1, -1, 1, -1], "to_odd": [8, 1, -1, 1, -1]}  # fmt: skip
    for name, values in want.items():
        got = round_blocks(x, BlockFloatingPoint(5), get_rounding(name), 0)
        assert got.tolist() == values, name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_specials_and_dtypes_of_the_functions(dtype: torch.dtype) -> None:
    x = torch.tensor([math.nan, math.inf, -math.inf, -0.0, 1.0], dtype=dtype)
    assert repr(float_quantize(x, 4, 3, "nearest").tolist()) == "[nan, 448.0, -448.0, -0.0, 1.0]"
    assert repr(float_quantize(x, 2, 1).tolist()) == "[nan, 6.0, -6.0, -0.0, 1.0]"
    fixed = fixed_point_quantize(x, 8, 4, rounding="nearest")
    assert repr(fixed.tolist()) == "[nan, 7.9375, -8.0, 0.0, 1.0]" and fixed.dtype is dtype
    free = fixed_point_quantize(x, 8, 4, clamp=False)
    assert repr(free.tolist()) == "[nan, inf, -inf, 0.0, 1.0]"
    assert block_quantize(x, 8).isnan().all()
    rows = block_quantize(torch.stack((x, torch.ones_like(x))), 8, 0)
    assert rows[0].isnan().all() and rows[1].tolist() == [1.0] * 5
    assert block_quantize(torch.zeros(3, dtype=dtype), 8).tolist() == [0.0] * 3
    assert block_quantize(torch.zeros(0, dtype=dtype), 8).shape == (0,)


DRAWS: list[Callable[..., Tensor]] = [
    lambda x, **seed: float_quantize(x, 4, 3, **seed),
    lambda x, **seed: fixed_point_quantize(x, 8, 4, **seed),
    lambda x, **seed: block_quantize(x, 5, **seed),
]


@pytest.mark.parametrize("draw", DRAWS, ids=["float", "fixed", "block"])
def test_stochastic_rounding_is_unbiased_and_follows_the_seed(draw: Callable[..., Tensor]) -> None:
    x = torch.full((100_000,), 1.03)
    torch.manual_seed(3)
    first, second = draw(x), draw(x)
    torch.manual_seed(3)
    assert torch.equal(draw(x), first) and not torch.equal(first, second)
    assert torch.equal(draw(x, seed=5), draw(x, seed=5))
    gap = float(first.max() - first.min())
    share = (1.03 - float(first.min())) / gap
    # Five standard errors of the mean of Bernoulli steps.
    tolerance = 5 * gap * math.sqrt(share * (1 - share) / x.numel())
    assert abs(float(first.double().mean()) - 1.03) < tolerance


def test_quantizer_rounds_both_ways_with_hooks_and_mask() -> None:
    rounding = quantizer(
        FixedPoint(8, 4), FloatingPoint(5, 2), "nearest", "nearest", True, [lambda g: 1.3 * g]
    )
    x = torch.tensor([1.0, 100.0, 7.95, 7.97, -8.03, -8.04], requires_grad=True)
    y = rounding(x)
    assert y.tolist() == [1.0, 7.9375, 7.9375, 7.9375, -8.0, -8.0]
    y.sum().backward()  # type: ignore[no-untyped-call]
    # Clamped is what rounding takes beyond the range; 1.3 is 1.25 in e5m2.
    assert x.grad is not None and x.grad.tolist() == [1.25, 0.0, 1.25, 0.0, 1.25, 0.0]
    z = torch.randn(5, requires_grad=True)
    Quantizer(None, FloatingPoint(4, 3), backward_rounding="nearest")(z).sum().backward()
    assert z.grad is not None and z.grad.tolist() == [1.0] * 5
    assert torch.equal(Quantizer()(z), z)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: float_quantize(torch.ones(1), 9, 3), ["exp=9", "1 to 8"]),
        (lambda: float_quantize(torch.ones(1), 4, 3, "up"), ['"up"', "nearest, stochastic"]),
        (lambda: float_quantize(torch.ones(1, dtype=torch.int32), 4, 3), ["torch.int32"]),
        (lambda: float_quantize([1.0], 4, 3), ["list", "torch.as_tensor"]),  # type: ignore[arg-type]
        (lambda: float_quantize(torch.ones(1, dtype=torch.float16), 8, 7),
         ["float16 cannot hold", "FloatingPoint(exp=8, man=7)"]),
        (lambda: fixed_point_quantize(torch.ones(1), 32, 8), ["float32 cannot hold", "wl=32"]),
        (lambda: fixed_point_quantize(torch.ones(1), 33, 8), ["wl=33", "1 to 32"]),
        (lambda: block_quantize(torch.ones(1), 1), ["wl=1", "2 to 32"]),
        (lambda: block_quantize(torch.ones(1), 8, 1), ["dim=1", "1 dimensions"]),
        (lambda: quantizer("e4m3"), ["e4m3", "straight_through"]),
        (lambda: quantizer(FloatingPoint(4, 3), clamping_grad_zero=True), ["FixedPoint", "clamp"]),
        (lambda: get_format(FixedPoint(8, 4, clamp=False)), ["clamp=False", "clamp=True"]),  # type: ignore[arg-type]
        (lambda: get_format(FixedPoint(4, 10)), ["fl=10", "wl - 1"]),  # type: ignore[arg-type]
        (lambda: get_format(BlockFloatingPoint(8, 0)), ["wl=8", "block_quantize"]),  # type: ignore[arg-type]
        (lambda: from_qtorch(FloatingPoint(0, 3), "recipe x"), ["recipe x", "exp=0"]),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence(call: Callable[[], Any], words: list[str]) -> None:
    with pytest.raises(InputError) as refusal:
        call()
    message = str(refusal.value)
    assert "\n" not in message and all(word in message for word in words), message


@pytest.mark.slow
@pytest.mark.parametrize(("exp", "man"), FLOATS)
def test_floats_agree_with_qtorch_but_for_ties(theirs: Any, exp: int, man: int) -> None:
    x = spread()
    fmt: Any = get_format(f"e{exp}m{man}")
    x = x[x.abs() <= fmt.largest]
    mine, other = (
        float_quantize(x, exp, man, "nearest"),
        theirs.float_quantize(x, exp, man, "nearest"),
    )
    differ = mine != other
    assert int(differ.sum()) <= 20
    tie = (x.double() - mine).abs() == (other.double() - x).abs()
    assert (tie | (x.abs() < fmt.min_normal))[differ].all()  # subnormals are rounded twice
    assert (other.abs() > mine.abs())[differ].all()


@pytest.mark.slow
@pytest.mark.parametrize(("wl", "fl", "clamp", "symmetric"), FIXED)
def test_fixed_point_agrees_with_qtorch(
    theirs: Any, wl: int, fl: int, clamp: bool, symmetric: bool
) -> None:
    x = spread()
    want = theirs.fixed_point_quantize(x, wl, fl, clamp, symmetric, "nearest")
    assert torch.equal(fixed_point_quantize(x, wl, fl, clamp, symmetric, "nearest"), want)


@pytest.mark.slow
@pytest.mark.parametrize(("wl", "dim"), BLOCKS)
def test_blocks_agree_with_qtorch_away_from_ties(theirs: Any, wl: int, dim: int) -> None:
    x = spread(4000).reshape(10, 20, 20)
    want = theirs.block_quantize(x, wl, dim, "nearest")
    assert torch.equal(block_quantize(x, wl, dim, "nearest"), want)


@pytest.mark.slow
def test_what_qtorch_does_otherwise_with_floats(theirs: Any) -> None:
    def near(values: list[float], exp: int, man: int) -> list[float]:
        out: list[float] = theirs.float_quantize(torch.tensor(values), exp, man, "nearest").tolist()
        return out

    assert near([1.0625, -1.0625, 2.0**-10], 4, 3) == [1.125, -1.125, 2.0**-9]  # ties away
    assert quantize(torch.tensor([1.0625, 2.0**-10]), "e4m3").tolist() == [1.0, 0.0]
    assert near([448.0, 464.0, 1e9, math.inf, math.nan, -math.nan], 4, 3)[:4] == [
        448,
        480,
        480,
        480,
    ]
    assert near([math.nan], 4, 3) == [480.0] and near([math.nan], 5, 2) == [114688.0]
    assert near([1e9], 5, 2) == [114688.0] and near([1e9], 5, 10) == [131008.0]
    assert near([3.4e38], 8, 7) == [math.inf]  # no saturation where the range is float32's
    zeros = theirs.float_quantize(torch.tensor([-0.0, -1e-9]), 4, 3, "nearest")
    assert zeros.tolist() == [0.0, 0.0] and not zeros.signbit().any()
    assert near([1.5], 4, 23) == [-1.5]  # 23 fraction bits turn the sign
    twice = 1.4900832923103735e-07  # just below halfway: float32 rounds the shifted sum up first
    assert near([twice], 5, 10) == [3 * 2.0**-24]
    assert quantize(torch.tensor([twice]), "float16").tolist() == [2 * 2.0**-24]
    with pytest.raises(RuntimeError, match="expected scalar type Float"):
        theirs.float_quantize(torch.ones(2, dtype=torch.float64), 4, 3, "nearest")
    unreserved = FloatFormat("e4m3_unreserved", 4, 3, infinity=False, nan="none")
    assert (
        near([448.0, 479.0, 1e9], 4, 3)
        == quantize(torch.tensor([448.0, 479.0, 1e9]), unreserved).tolist()
    )


@pytest.mark.slow
def test_what_qtorch_does_otherwise_with_blocks_and_fixed_point(theirs: Any) -> None:
    ties = torch.tensor([8.0, 0.5, 2.5, -0.5, -1.5, -2.5])  # the quantum is 1
    assert theirs.block_quantize(ties, 5, -1, "nearest").tolist() == [8, 1, 3, 0, -1, -2]  # up
    assert block_quantize(ties, 5, -1, "nearest").tolist() == [8, 0, 2, 0, -2, -2]
    wide = theirs.block_quantize(torch.tensor([8.0, 0.5]), 23, -1, "nearest")
    assert (wide < -15).all()  # 23 bits and more: one negative value
    torch.manual_seed(0)
    many = torch.randn(240_000) * 2.0 ** torch.randint(-6, 6, (240_000,))
    for wl, low, high in ((8, 0, 30), (20, 10_000, 20_000)):  # x + 6 * 2^E is rounded first
        other = theirs.block_quantize(many, wl, -1, "nearest")
        assert low <= int((other != block_quantize(many, wl, -1, "nearest")).sum()) <= high
    near_top = theirs.block_quantize(torch.tensor([3e38, 1e37]), 8, -1, "nearest")
    assert (near_top < -3e38).all()  # 6 * 2^127 is no float32
    assert block_quantize(torch.tensor([3e38, 1e37]), 8, -1, "nearest")[0] == 2.0**127 * 1.765625
    odd = torch.tensor([4194304.5, 8388609.0])
    assert theirs.fixed_point_quantize(odd, 32, 1, False, False, "nearest").tolist() != odd.tolist()
    assert fixed_point_quantize(odd, 32, 1, False, False, "nearest").tolist() == odd.tolist()
    below_half = torch.tensor([0.49999997])
    assert theirs.fixed_point_quantize(below_half, 8, 1, rounding="nearest").item() == 0.5
    same_place = fixed_point_quantize(below_half, 8, 1, rounding="nearest")
    assert same_place.item() == 0.5  # 0.49999997 is nearest to 0.5 on multiples of a half


@pytest.mark.slow
def test_which_stochastic_rounding_of_qtorch_follows_the_seed(theirs: Any) -> None:
    x = torch.full((64,), 1.03)
    calls: dict[str, Callable[[], Tensor]] = {
        "float": lambda: theirs.float_quantize(x, 4, 3),
        "fixed": lambda: theirs.fixed_point_quantize(x, 8, 4),
        "block": lambda: theirs.block_quantize(x, 5),
    }
    follows = {}
    for name, call in calls.items():
        torch.manual_seed(0)
        first = call()
        torch.manual_seed(0)
        follows[name] = torch.equal(first, call())
    assert follows == {"float": False, "fixed": True, "block": False}


@pytest.mark.slow
def test_what_qtorch_leaves_out_on_the_way_back(theirs: Any) -> None:
    qtorch = importlib.import_module("qtorch")

    def gradient(make: Callable[..., Any], *numbers: Any, **options: Any) -> list[float]:
        x = torch.tensor([1.0, 100.0], requires_grad=True)
        make(*numbers, "nearest", "nearest", **options)(x).sum().backward()
        assert x.grad is not None
        out: list[float] = x.grad.tolist()
        return out

    hooks = [lambda g: 2 * g]
    fixed, back = qtorch.FixedPoint(8, 4), qtorch.FloatingPoint(5, 2)
    without = (fixed, None)
    assert gradient(theirs.quantizer, *without, backward_hooks=hooks) == [1.0, 1.0]
    assert gradient(quantizer, *without, backward_hooks=hooks) == [2.0, 2.0]
    assert gradient(theirs.quantizer, *without, clamping_grad_zero=True) == [1.0, 1.0]
    assert gradient(quantizer, *without, clamping_grad_zero=True) == [1.0, 0.0]
    both = {"clamping_grad_zero": True, "backward_hooks": hooks}
    assert gradient(theirs.quantizer, fixed, back, **both) == [2.0, 0.0]
    assert gradient(quantizer, fixed, back, **both) == [2.0, 0.0]
