"""Recipes against their publications: operands by other people's code or spelled out anew, and one
product of each from those operands by the exact unit."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from scipy.linalg import hadamard
from torch import nn

from tapeout.formats import Stochastic, quantize
from tapeout.formats.random import random_integer_reference
from tapeout.simulator import emulate, load_chip, load_recipe
from tapeout.simulator.matrix import find_path, prepare
from tapeout.simulator.recipe_rows import Hadamard
from tapeout.simulator.recipe_rows import Operand as Row

Array = np.ndarray[Any, Any]
F32 = np.float32
NO_TORCHAO = "torchao is not installed: pip install torchao to compare with it"


class Operand(NamedTuple):
    """Elements (R, K), the scale of each element, and the factor of each row or of all."""

    elements: Array
    scales: Array
    factor: Array


def values(rows: int, depth: int, seed: int) -> Array:
    """Normal, over a few binades from block to block, with a block of zeros."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, depth)) * 2.0 ** rng.integers(-6, 6, (rows, depth // 16)).repeat(
        16, axis=1
    )
    x[0, :32] = 0
    return x.astype(F32)


def plain(elements: Array, factor: Any = None) -> Operand:
    ones = np.ones((1, 1), F32)
    return Operand(elements, np.ones_like(elements), ones if factor is None else factor)


def by_tensor(x: Array, dtype: torch.dtype) -> Operand:
    """torchao's tensor-wise float8."""
    theirs = pytest.importorskip("torchao.float8.float8_utils", reason=NO_TORCHAO)
    t = torch.from_numpy(x)
    scale = theirs.tensor_to_scale(t, dtype)
    elements = theirs.to_fp8_saturated(t * scale, dtype).float().numpy()
    return plain(elements, np.full((1, 1), F32(1) / F32(scale.item()), F32))


def by_tensor_once(x: Array, scale: F32, dtype: torch.dtype) -> Array:
    """A scale from elsewhere, saturation, torch's conversion."""
    most = F32(torch.finfo(dtype).max)
    scaled = np.clip(x * scale, -most, most)
    return np.asarray(torch.from_numpy(scaled).to(dtype).float())


def by_mx(x: Array, element: Any, mode: str) -> Operand:
    """torchao's MX; `element` is its name of the element format."""
    mx = pytest.importorskip("torchao.prototype.mx_formats.mx_tensor", reason=NO_TORCHAO)
    config = pytest.importorskip("torchao.prototype.mx_formats.config", reason=NO_TORCHAO)
    scales, codes = mx.to_mx(torch.from_numpy(x), element, 32, config.ScaleCalculationMode[mode])
    restored = mx.to_dtype(codes, scales, element, 32, torch.float32).numpy()
    each = np.exp2(scales.view(torch.uint8).numpy().astype(np.float64) - 127).repeat(32, axis=1)
    return Operand((restored / each).astype(F32), each.astype(F32), np.ones((1, 1), F32))


def by_deepseek(x: Array, height: int) -> Operand:
    """s = fl(amax / 448), y = e4m3(fl(x / s)), a tile of (height, 128) at a time."""
    out, scales = np.zeros_like(x), np.ones_like(x)
    for i in range(0, x.shape[0], height):
        for j in range(0, x.shape[1], 128):
            tile = x[i : i + height, j : j + 128]
            s = F32(np.abs(tile).max() / F32(448))
            scales[i : i + height, j : j + 128] = s
            if s > 0:
                out[i : i + height, j : j + 128] = by_tensor_once(
                    (tile / s).astype(F32), F32(1), torch.float8_e4m3fn
                )
    return Operand(out, scales, np.ones((1, 1), F32))


def to_e2m1(y: Array) -> Array:
    """The nearest of 0, 0.5, 1, 1.5, 2, 3, 4, 6, ties to the even code."""
    grid = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    distance = np.abs(np.abs(np.minimum(np.abs(y), 6)).astype(np.float64)[..., None] - grid)
    best = distance.min(-1, keepdims=True)
    even = np.argmax((distance == best) & (np.arange(8) % 2 == 0), -1)
    chosen = np.where(((distance == best).sum(-1) > 1), even, distance.argmin(-1))
    return np.asarray(np.sign(y) * grid[chosen], F32)


def nvfp4_scales(x: Array, height: int) -> tuple[Array, F32]:
    """s_enc = 6 448 / amax; s_block = e4m3(amax_block / 6 s_enc); s_dec = 1 / s_enc."""
    amax = np.abs(x).max()
    encode = F32(6 * 448) / amax
    decode = F32(1) / encode
    scales = np.zeros_like(x)
    for i in range(0, x.shape[0], height):
        for j in range(0, x.shape[1], 16):
            block = F32(np.abs(x[i : i + height, j : j + 16]).max() / F32(6)) * encode
            stored = by_tensor_once(np.array([block], F32), F32(1), torch.float8_e4m3fn)[0]
            scales[i : i + height, j : j + 16] = stored
    return scales, decode


def by_nvfp4(x: Array, height: int, convert: Callable[[Array], Array] = to_e2m1) -> Operand:
    """y = e2m1(fl(x fl(1 / fl(s_block s_dec))))."""
    scales, decode = nvfp4_scales(x, height)
    with np.errstate(divide="ignore"):
        inverse = np.minimum(F32(1) / (scales * decode), np.finfo(F32).max)
    return Operand(convert((x * inverse).astype(F32)), scales, np.full((1, 1), decode, F32))


def by_integer(x: Array, largest: int, axis: int | None) -> Operand:
    """round(x largest / amax), undone by fl(1 / fl(largest / amax))."""
    amax = np.abs(x).max(axis=axis, keepdims=True)
    s = np.where(amax == 0, F32(1), F32(largest) / np.where(amax == 0, F32(1), amax)).astype(F32)
    return plain(np.rint(x * s).astype(F32), np.broadcast_to(F32(1) / s, (x.shape[0], 1)))


def rotated(x: Array, size: int, signs: Array | None = None) -> Array:
    """Butterflies in float32, then 1 / sqrt(size)."""
    y = x.reshape(-1, size) * (np.ones(size, F32) if signs is None else signs)
    half = 1
    while half < size:
        y = y.reshape(-1, size // (2 * half), 2, half)
        y = np.stack([y[:, :, 0] + y[:, :, 1], y[:, :, 0] - y[:, :, 1]], 2)
        half *= 2
    return (y.reshape(x.shape) * F32(1 / np.sqrt(size))).astype(F32)


def in_dtype(dtype: torch.dtype) -> Callable[[Array], Operand]:
    return lambda x: plain(torch.from_numpy(x).to(dtype).float().numpy())


def rotated_int4(x: Array) -> Operand:
    return by_integer(rotated(x, 16), 7, 1)


E4M3 = torch.float8_e4m3fn
#: (activation, weight) of fprop, each (R, K) with a row meeting in one dot product.
ORACLES: dict[str, tuple[Callable[[Array], Operand], ...]] = {
    "fp32": (plain, plain),
    "bf16": (in_dtype(torch.bfloat16),) * 2,
    "bf16-sr": (in_dtype(torch.bfloat16),) * 2,
    "fp16": (in_dtype(torch.float16),) * 2,
    "fp8": (lambda x: by_tensor(x, E4M3),) * 2,
    "fp8-delayed": (lambda x: plain(by_tensor_once(x, F32(1), E4M3)),) * 2,
    "deepseek-v3": (lambda x: by_deepseek(x, 1), lambda x: by_deepseek(x, 128)),
    "mxfp8": (lambda x: by_mx(x, E4M3, "RCEIL"),) * 2,
    "mxfp6": (lambda x: by_mx(x, "fp6_e3m2", "FLOOR"),) * 2,
    "mxfp4": (lambda x: by_mx(x, torch.float4_e2m1fn_x2, "FLOOR"),) * 2,
    "nvfp4": (lambda x: by_nvfp4(x, 1), lambda x: by_nvfp4(x, 16)),
    "int8": (lambda x: by_integer(x, 127, 1), lambda x: by_integer(x, 127, None)),
    "int4": (rotated_int4,) * 2,
}


@pytest.mark.parametrize("name", ORACLES)
def test_operands_are_those_of_the_publication(name: str) -> None:
    recipe = load_recipe(name)
    for role, oracle, seed in zip(("activation", "weight"), ORACLES[name], (1, 2), strict=True):
        x = values(160, 256, seed)
        ours, theirs = prepare(x[None], recipe.operand(role, "fprop")), oracle(x)
        assert np.array_equal(ours.elements[0], theirs.elements)
        used = theirs.elements != 0
        assert np.array_equal(ours.scales_of(1)[0][used], theirs.scales[used])
        factor = np.ones((1, 1), F32) if ours.factor is None else ours.factor[0]
        assert np.array_equal(np.broadcast_to(factor, theirs.factor.shape), theirs.factor)


def test_gradients_of_fp8_are_e5m2_and_of_int8_by_row() -> None:
    x = values(40, 64, 3)
    ours = prepare(x[None], load_recipe("fp8").operand("gradient", "dgrad"))
    assert np.array_equal(ours.elements[0], by_tensor(x, torch.float8_e5m2).elements)
    switchback = load_recipe("int8")
    ours = prepare(x[None], switchback.operand("gradient", "dgrad"))
    assert np.array_equal(ours.elements[0], by_integer(x, 127, 1).elements)
    ours = prepare(x[None], switchback.operand("gradient", "wgrad"))
    assert np.array_equal(ours.elements[0], in_dtype(torch.bfloat16)(x).elements)


def signs_of(size: int, seed: int) -> Array:
    drawn = [random_integer_reference(seed, 2**63, i, 1) for i in range(size)]
    return np.where(drawn, F32(-1), F32(1)).astype(F32)


def test_nvfp4_gradients_are_rotated_and_stochastic() -> None:
    """wgrad: signs of the run, a 16-point rotation, then y rounded by the bits of its index."""
    row = load_recipe("nvfp4").operand("gradient", "wgrad")
    x = values(32, 64, 4)
    how = Stochastic(8)
    turned = rotated(x, 16, signs_of(16, 11))
    theirs = by_nvfp4(turned, 1, lambda y: quantize(y, "e2m1", rounding=how, seed=11, stream=5))
    ours = prepare(x[None], row, how, seed=11, stream=5)
    assert np.array_equal(ours.elements[0], theirs.elements)
    assert not np.array_equal(theirs.elements, by_nvfp4(turned, 1).elements)


def test_mxfp4_gradients_shrink_so_that_nothing_saturates_and_the_mean_is_x() -> None:
    """Tseng et al., algorithm 2: 3/4 of x, the scale of x, stochastic rounding, 4/3 after."""
    row = load_recipe("mxfp4-rht", {"gradient": {"hadamard": {"size": 1}}}).operand("gradient")
    x = np.random.default_rng(5).standard_normal((1, 2000, 32)).astype(F32)
    x[:] = x[:, :1]
    ours = prepare(x, row, Stochastic(16), seed=3)
    exponent = np.floor(np.log2(np.abs(x[0, 0]).max())) - 2
    assert ours.scales is not None and np.unique(ours.scales).tolist() == [2.0**exponent]
    y = (x[0] * F32(2.0**-exponent) * F32(0.75)).astype(F32)
    assert np.abs(y).max() < 6
    assert np.array_equal(ours.elements[0], quantize(y, "e2m1", rounding=Stochastic(16), seed=3))
    assert ours.factor is not None and ours.factor.item() == F32(1) / F32(0.75)
    mean = (ours.dequantised()[0].astype(np.float64) * ours.factor.item()).mean(0)
    assert np.abs(mean - x[0, 0]).max() < 0.05 * 2.0**exponent


@pytest.mark.parametrize("size", [2, 16, 64])
def test_rotation_is_the_hadamard_matrix(size: int) -> None:
    """Exact on small integers where 1 / sqrt(size) is a power of two; else to float32 rounding."""
    x = np.random.default_rng(size).integers(-9, 10, (1, 6, 2 * size - size // 2)).astype(F32)
    for random in (False, True):
        row = Row(format="float32", hadamard=Hadamard(size=size, random=random))
        ours = prepare(x, row, seed=7).elements[0]
        padded = np.pad(x[0], ((0, 0), (0, size // 2))).reshape(6, 2, size)
        signs = signs_of(size, 7) if random else np.ones(size)
        theirs = (padded * signs) @ hadamard(size).astype(np.float64) / np.sqrt(size)
        if size in (16, 64):
            assert np.array_equal(ours, theirs.reshape(6, -1))
        assert np.allclose(ours, theirs.reshape(6, -1), rtol=1e-6, atol=1e-6)
        assert np.abs(ours @ ours.T - x[0] @ x[0].T).max() < 1e-2


def test_square_blocks_give_weights_the_same_values_both_ways() -> None:
    x = values(64, 96, 6)
    for name in ("nvfp4", "deepseek-v3"):
        row = load_recipe(name).operand("weight")
        forward, backward = prepare(x[None], row), prepare(x.T[None], row)
        assert np.array_equal(forward.dequantised()[0], backward.dequantised()[0].T)


#: Chip, the unit's operands and instruction, and how scales join.
PRODUCTS = [
    ("fp32", "nvidia-h100", ("float32", "float32", "fma"), "plain"),
    ("bf16", "nvidia-h100", ("bfloat16", "bfloat16", "wgmma"), "plain"),
    ("bf16-sr", "nvidia-b200", ("bfloat16", "bfloat16", "tcgen05"), "plain"),
    ("fp16", "amd-mi300x", ("float16", "float16", "v_mfma"), "plain"),
    ("fp8", "nvidia-h100", ("e4m3", "e4m3", "wgmma"), "plain"),
    ("fp8", "generic-int4", ("float16", "float16", "dot"), "plain"),
    ("fp8-delayed", "nvidia-h100", ("e4m3", "e4m3", "wgmma"), "plain"),
    ("deepseek-v3", "nvidia-h100", ("e4m3", "e4m3", "wgmma"), "parts"),
    ("deepseek-v3", "generic-int4", ("float16", "float16", "dot"), "parts"),
    ("mxfp8", "nvidia-b200", ("e4m3", "e4m3", "tcgen05 mxf8f6f4"), "scaled"),
    ("mxfp8", "nvidia-h100", ("bfloat16", "bfloat16", "wgmma"), "dequantised"),
    ("mxfp6", "nvidia-b200", ("e3m2fn", "e3m2fn", "tcgen05 mxf8f6f4"), "scaled"),
    ("mxfp4", "nvidia-b200", ("e2m1", "e2m1", "tcgen05 mxf4"), "scaled"),
    ("mxfp4", "amd-mi300x", ("bfloat16", "bfloat16", "v_mfma"), "dequantised"),
    ("nvfp4", "nvidia-b200", ("e2m1", "e2m1", "tcgen05 mxf4nvf4"), "scaled"),
    ("nvfp4", "nvidia-h100", ("float16", "float16", "wgmma"), "dequantised"),
    ("int8", "nvidia-h100", ("int8", "int8", "wgmma"), "plain"),
    ("int4", "nvidia-h100", ("int4", "int4", "mma.sync"), "plain"),
    ("int4", "amd-mi300x", ("int8", "int8", "v_mfma"), "plain"),
]


def nearest32(x: Fraction) -> F32:
    """A rational number to float32, nearest-even, in its normal range."""
    if x == 0:
        return F32(0)
    exponent = len(bin(abs(x.numerator))) - len(bin(x.denominator))
    exponent -= abs(x) < Fraction(2) ** exponent
    ulp = Fraction(2) ** (exponent - 23)
    return F32(float(round(x / ulp) * ulp))


def expected(unit: Any, kind: str, a: Operand, b: Operand) -> Array:
    """The product of the oracle's operands, exactly as the unit and the recipe say."""
    if kind == "parts":
        total = np.zeros((len(a.elements), len(b.elements)), F32)
        for k in range(0, a.elements.shape[1], 128):
            part = slice(k, k + 128)
            sums = unit.reference.matmul(a.elements[:, part], b.elements[:, part].T)
            scale = a.scales[:, k][:, None] * b.scales[:, k][None]
            exact = [
                nearest32(Fraction(float(p)) * Fraction(float(s)) + Fraction(float(t)))
                for p, s, t in zip(sums.ravel(), scale.ravel(), total.ravel(), strict=True)
            ]
            total = np.array(exact, F32).reshape(total.shape)
        return total
    if kind == "scaled":
        every = unit.scale.block
        scales = {"a_scale": a.scales[:, ::every], "b_scale": b.scales[:, ::every].T}
        sums = unit.reference.matmul(a.elements, b.elements.T, **scales)
    elif kind == "dequantised":
        sums = unit.reference.matmul(a.elements * a.scales, (b.elements * b.scales).T)
    else:
        sums = unit.reference.matmul(a.elements, b.elements.T)
    return np.asarray(sums.astype(F32) * (a.factor * b.factor.T))


@pytest.mark.parametrize(("name", "chip", "unit", "kind"), PRODUCTS)
def test_one_product_of_each_recipe(name: str, chip: str, unit: Any, kind: str) -> None:
    """Oracle operands, the unit's exact reference, the rescaling, the stored format."""
    over: dict[str, Any] = {"exempt_last": 0}
    if name == "bf16-sr":  # what memory rounds stochastically, here rounds as the operand
        over["memory"] = {"weight": {"rounding": "nearest_even"}}
    recipe, hardware = load_recipe(name, over), load_chip(chip)
    row = hardware.matrix_row(unit[0], unit[1], instruction=unit[2], output=None)
    path = find_path(hardware, recipe, "fprop", "activation", "weight")
    assert path.kind == kind and path.row == row
    x, layer = values(3, 256, 8), nn.Linear(256, 4, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(values(4, 256, 9)))
    with emulate(hardware, recipe, model=layer, seed=2):
        out = layer(torch.from_numpy(x)).detach().numpy()
    operands = [f(v) for f, v in zip(ORACLES[name], (x, values(4, 256, 9)), strict=True)]
    theirs = expected(path.unit, kind, *operands)
    stored = getattr(torch, recipe.rows.output.fprop)
    assert np.array_equal(out, torch.from_numpy(theirs).to(stored).float().numpy())


#: Chip, and the oracles of gradient, weight and activation where the contraction is theirs.
BACKWARD: dict[str, tuple[Any, ...]] = {
    "mxfp8": ("nvidia-b200", *ORACLES["mxfp8"]),
    "mxfp6": ("nvidia-h100", *ORACLES["mxfp6"]),
    "deepseek-v3": ("nvidia-h100", *ORACLES["deepseek-v3"]),
    "nvfp4": ("nvidia-b200", *ORACLES["nvfp4"]),
}


@pytest.mark.parametrize("name", BACKWARD)
def test_backward_products_scale_along_their_own_contractions(name: str) -> None:
    """dgrad contracts outputs, wgrad the batch; nvfp4 without its rotation and random bits."""
    chip, narrow, weighed = load_chip(BACKWARD[name][0]), *BACKWARD[name][1:]
    over: dict[str, Any] = {"exempt_last": 0}
    if name == "nvfp4":
        still = {"hadamard": {"size": 1}, "rounding": "nearest_even"}
        over |= {"gradient": {"rounding": "nearest_even"}}
        over |= {"gemm": {"wgrad": {"activation": still, "gradient": still}}}
    recipe, layer = load_recipe(name, over), nn.Linear(6, 64, bias=False)
    w, x, g = values(6, 64, 1).T.copy(), values(6, 64, 2).T.copy(), values(64, 64, 3)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(w))
    given = torch.from_numpy(x).requires_grad_()
    with emulate(chip, recipe, model=layer, seed=2):
        layer(given).backward(torch.from_numpy(g))
    dgrad = find_path(chip, recipe, "dgrad", "gradient", "weight")
    theirs = torch.from_numpy(expected(dgrad.unit, dgrad.kind, narrow(g), weighed(w.T.copy())))
    assert given.grad is not None and torch.equal(given.grad, theirs.bfloat16().float())
    wgrad = find_path(chip, recipe, "wgrad", "gradient", "activation")
    theirs = torch.from_numpy(
        expected(wgrad.unit, wgrad.kind, narrow(g.T.copy()), narrow(x.T.copy()))
    )
    assert layer.weight.grad is not None and torch.equal(layer.weight.grad, theirs)


def test_fp8_of_another_kind_of_zero_on_amd() -> None:
    """MI300X: e4m3fnuz, whose largest is 240, in place of e4m3fn."""
    chip, recipe = load_chip("amd-mi300x"), load_recipe("fp8")
    x, layer = values(5, 64, 8), nn.Linear(64, 7, bias=False)
    with emulate(chip, recipe, model=layer):
        out = layer(torch.from_numpy(x)).detach()
    w = layer.weight.detach().numpy()
    sx, sw = (F32(240) / np.abs(v).max() for v in (x, w))
    unit = chip.matrix_unit("e4m3fnuz", "e4m3fnuz")
    q = [
        torch.from_numpy(v * s).to(torch.float8_e4m3fnuz).float().numpy()
        for v, s in ((x, sx), (w, sw))
    ]
    sums = unit.reference.matmul(q[0], q[1].T).astype(F32) * ((F32(1) / sx) * (F32(1) / sw))
    assert torch.equal(out, torch.from_numpy(sums).bfloat16().float())


class Delayed:
    """Transformer Engine's meta tensor: a history whose first place is the present."""

    def __init__(self, length: int, most: float, margin: int, algorithm: str) -> None:
        self.history, self.scale = [F32(0)] * length, F32(1)
        self.most, self.margin, self.algorithm = F32(most), margin, algorithm

    def see(self, x: Array) -> None:
        self.history[0] = max(self.history[0], F32(np.abs(x).max()))

    def update(self) -> None:
        amax = self.history[0] if self.algorithm == "most_recent" else max(self.history)
        if amax > 0 and np.isfinite(amax):
            with np.errstate(over="ignore"):
                scale = self.most / amax / F32(2.0**self.margin)
            self.scale = F32(np.finfo(F32).max) if np.isinf(scale) else scale
        self.history = [F32(0), *self.history[2:], self.history[0]][: len(self.history)]
        self.history[0] = F32(0)


@pytest.mark.parametrize(
    ("algorithm", "length", "margin"), [("max", 4, 0), ("most_recent", 6, 1), ("max", 1, 0)]
)
def test_delayed_scaling_over_twenty_passes(algorithm: str, length: int, margin: int) -> None:
    """Forward and backward, magnitudes from 0 to infinity, the scale of each pass from before."""
    rows = {"history": length, "algorithm": algorithm, "margin": margin}
    over = {r: {"delayed": rows} for r in ("weight", "activation", "gradient")}
    recipe, chip = load_recipe("fp8-delayed", over), load_chip("nvidia-h100")
    layer, rng = nn.Linear(32, 8, bias=False), np.random.default_rng(0)
    meta = {
        role: Delayed(length, most, margin, algorithm)
        for role, most in (("x", 448), ("w", 448), ("g", 57344))
    }
    unit = {fmt: chip.matrix_unit(fmt, "e4m3", instruction="wgmma") for fmt in ("e4m3", "e5m2")}
    dtypes = {"x": E4M3, "w": E4M3, "g": torch.float8_e5m2}
    with emulate(chip, recipe, model=layer):
        for step in range(20):
            usual = 2.0 ** float(rng.integers(-20, 20))
            size = {3: 0.0, 9: 2.0**-140}[step] if step in (3, 9) else usual
            x = (rng.standard_normal((4, 32)) * size).astype(F32)
            if step == 12:
                x[1, 2] = np.inf
            g = (rng.standard_normal((4, 8)) * 2.0 ** float(rng.integers(-30, 5))).astype(F32)
            with torch.no_grad():
                layer.weight.normal_(std=0.1 * (step + 1))
            w = layer.weight.detach().numpy().copy()
            given = torch.from_numpy(x).requires_grad_()
            out = layer(given)
            out.backward(torch.from_numpy(g))
            q = {}
            for role, v in (("x", x), ("w", w), ("g", g)):
                q[role] = by_tensor_once(v, meta[role].scale, dtypes[role])
                meta[role].see(v)
            undo = {role: F32(1) / m.scale for role, m in meta.items()}
            forward = unit["e4m3"].matmul(q["x"], q["w"].T) * (undo["x"] * undo["w"])
            backward = unit["e5m2"].matmul(q["g"], q["w"]) * (undo["g"] * undo["w"])
            assert torch.equal(out.detach(), torch.from_numpy(forward).bfloat16().float())
            assert torch.equal(given.grad, torch.from_numpy(backward).bfloat16().float())  # type: ignore[arg-type]
            for m in meta.values():
                m.update()
    assert meta["x"].scale != 1 and meta["g"].scale != 1
