"""Block formats against other people's code: torchao, gfloat, and equations spelled out anew."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tapeout.formats import BlockFormat, get_format
from tapeout.formats.blocks.conversion import decode_blocks, encode_blocks, quantize_blocks
from tapeout.formats.packing import pack_codes
from tapeout.optimizers.codec import RowCodec

NO_TORCHAO = "torchao is not installed: pip install torchao to compare with it"
MX = {
    "mxfp8_e4m3": torch.float8_e4m3fn,
    "mxfp8_e5m2": torch.float8_e5m2,
    "mxfp6_e3m2": "fp6_e3m2",
    "mxfp6_e2m3": "fp6_e2m3",
    "mxfp4_e2m1": getattr(torch, "float4_e2m1fn_x2", None),
}
TORCHAO_RULES = {"floor": "FLOOR", "ceil": "CEIL", "even": "EVEN", "ratio": "RCEIL"}


def block(name: str, **changes: object) -> BlockFormat:
    fmt = get_format(name)
    assert isinstance(fmt, BlockFormat)
    return replace(fmt, **changes)  # type: ignore[arg-type]


def spread_array(
    rows: int, columns: int, length: int, seed: int, low: int, high: int
) -> np.ndarray:
    """Blocks whose largest magnitudes lie in 2^low .. 2^high, with zeros and powers of two."""
    rng = np.random.default_rng(seed)
    exponents = rng.integers(low, high, (rows, columns // length, 1)).astype(np.float64)
    x = rng.standard_normal((rows, columns // length, length))
    x = np.where(rng.random(x.shape) < 0.1, np.sign(x), x)
    x *= 2.0 ** -rng.integers(0, 12, x.shape).astype(np.float64)
    x *= 2.0**exponents
    x[rng.random(x.shape[:2]) < 0.05] = 0.0
    x = np.where(rng.random(x.shape) < 0.05, 0.0, x)
    return x.reshape(rows, columns).astype(np.float32)


def bits(x: np.ndarray) -> np.ndarray:
    """Bits, with every NaN the same."""
    return np.where(np.isnan(x), np.float32(np.nan), x).view(np.int32)


def their_mx(x: np.ndarray, name: str, rule: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scale codes, packed element codes and restored values of torchao."""
    mx = pytest.importorskip("torchao.prototype.mx_formats.mx_tensor", reason=NO_TORCHAO)
    config = pytest.importorskip("torchao.prototype.mx_formats.config", reason=NO_TORCHAO)
    mode = config.ScaleCalculationMode[TORCHAO_RULES[rule]]
    scales, codes = mx.to_mx(torch.from_numpy(x), MX[name], 32, mode)
    values = mx.to_dtype(codes, scales, MX[name], 32, torch.float32)
    return scales.view(torch.uint8).numpy(), codes.view(torch.uint8).numpy(), values.numpy()


@pytest.mark.parametrize("rule", TORCHAO_RULES)
@pytest.mark.parametrize("name", MX)
def test_mx_equals_torchao_to_the_bit(name: str, rule: str) -> None:
    """Scales, codes and values, infinities and NaN included, but for three deviations.

    torchao scales blocks of the least scale, 2^-127, with 2^-126 (1 under RCEIL), because its
    compiler lacks subnormals, and so restores half of what went in: such blocks are compared by
    their scale alone. Its RCEIL takes log2 in float32, which is off beside powers of two; the
    conversion instruction of the hardware, and we, round up exactly: a difference is allowed
    where the ratio is within 2^-20 above a power of two. Codes of NaN differ in sign.
    """
    fmt = block(name, rule=rule)
    x = spread_array(400, 256, 32, 1, -126, 128)
    rng = np.random.default_rng(2)
    x[rng.integers(0, 400, 40), rng.integers(0, 256, 40)] = np.inf
    x[rng.integers(0, 400, 40), rng.integers(0, 256, 40)] = -np.inf
    x[rng.integers(0, 400, 20), rng.integers(0, 256, 20)] = np.nan
    x[:5, :32] *= np.float32(2.0**-125)
    scales, codes, values = their_mx(x, name, rule)
    ours = encode_blocks(x, fmt)
    with np.errstate(invalid="ignore"):
        ratio = np.abs(x).reshape(400, -1, 32).max(-1) / np.float32(fmt.largest)
    fraction = np.frexp(ratio)[0] * 2 - 1
    beside = (rule == "ratio") & (fraction > 0) & (fraction < 2.0**-20)
    assert np.array_equal(np.asarray(ours.scales)[~beside], scales[~beside])
    assert (~beside).mean() > 0.99
    least = np.repeat(beside | (scales == 0), 32, axis=-1)
    got = quantize_blocks(x, fmt)
    zero = x == 0
    assert np.array_equal(bits(got)[~least | zero], bits(values)[~least | zero])
    assert np.array_equal(bits(decode_blocks(ours)), bits(got))
    fine = ~least & ~np.isnan(got)
    unpacked = np.asarray(ours.codes)
    if name == "mxfp4_e2m1":
        fine = fine[:, ::2] & fine[:, 1::2]
        unpacked = pack_codes(unpacked, 4)
    assert np.array_equal(unpacked[fine], codes[fine])


def their_nvfp4(x: np.ndarray, tensor: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    nv = pytest.importorskip("torchao.prototype.mx_formats.nvfp4_tensor", reason=NO_TORCHAO)
    t = torch.from_numpy(x)
    scale = nv.per_tensor_amax_to_scale(t.abs().max()) if tensor else None
    both = nv.NVFP4Tensor.to_nvfp4(t, per_tensor_scale=scale)
    scales = both.scale.view(torch.uint8).numpy()
    return (
        scales,
        both.qdata.view(torch.uint8).numpy(),
        both.dequantize(torch.float32).numpy(),
        (float(scale) if scale is not None else 1.0),
    )


@pytest.mark.parametrize("tensor", [True, False])
@pytest.mark.parametrize("low", [-30, -9, 0])
def test_nvfp4_equals_torchao_to_the_bit(low: int, tensor: bool) -> None:
    """With its floor of 2^-6 under the stored scales, which NVIDIA's equation does not have."""
    x = spread_array(200, 256, 16, 3, low, 8)
    scales, codes, values, scale = their_nvfp4(x, tensor)
    if tensor:
        fmt = block("nvfp4", rule="nvfp4_torchao", least_scale=2.0**-6)
    else:
        fmt = block("nvfp4", rule="absmax_reciprocal", tensor_scale=None, least_scale=2.0**-6)
    ours = encode_blocks(x, fmt)
    assert (ours.tensor_scale or 1.0) == scale
    assert np.array_equal(np.asarray(ours.scales), scales)
    assert np.array_equal(pack_codes(np.asarray(ours.codes), 4), codes)
    assert np.array_equal(bits(quantize_blocks(x, fmt)), bits(values))


def test_nvfp4_of_zeros_and_infinities_where_torchao_divides_zero_by_zero() -> None:
    zeros = np.zeros((2, 32), np.float32)
    assert np.isnan(their_nvfp4(zeros, True)[2]).all()
    for rule in ("nvfp4", "nvfp4_torchao"):
        assert not quantize_blocks(zeros, block("nvfp4", rule=rule)).any()
    zeros[0, 3] = np.inf  # the tensor's scale is 1, the block's the largest
    assert quantize_blocks(zeros, block("nvfp4"))[0, :5].tolist() == [0, 0, 0, 6 * 448, 0]


def e2m1(x: np.ndarray) -> np.ndarray:
    """The nearest of 0, 0.5, 1, 1.5, 2, 3, 4, 6 by decision points, ties to even."""
    values = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)
    a = np.abs(x)
    code = (a > 0.25).astype(int) + (a >= 0.75) + (a > 1.25) + (a >= 1.75)
    code += (a > 2.5).astype(int) + (a >= 3.5) + (a > 5.0)
    return np.asarray(np.copysign(values[code], x))


def test_nvfp4_equals_the_equation_of_the_paper() -> None:
    """arXiv 2509.25149, in numpy float32 and ml_dtypes: nothing of ours in it."""
    import ml_dtypes

    x = spread_array(200, 256, 16, 4, -20, 8)
    blocks, six = x.reshape(200, 16, 16), np.float32(6)
    encode = np.float32(448 * 6) / np.abs(x).max()
    decode = np.float32(1) / encode
    wanted = (np.abs(blocks).max(-1, keepdims=True) / six) * encode
    scale = np.minimum(wanted, np.float32(448)).astype(ml_dtypes.float8_e4m3fn).astype(np.float32)
    with np.errstate(divide="ignore", over="ignore"):
        factor = np.minimum(np.float32(1) / (scale * decode), np.finfo(np.float32).max)
        y = np.clip(blocks * factor, -six, six)
    want = (e2m1(y) * (scale * decode)).reshape(x.shape)
    assert np.array_equal(bits(quantize_blocks(x, block("nvfp4"))), bits(want))
    assert (scale == 0).any() and (scale == 448).any()


def test_a_block_of_e4m3_with_float32_scale_equals_the_equation_of_deepseek_v3() -> None:
    import ml_dtypes

    x = spread_array(256, 384, 128, 5, -40, 40)
    for size in ((1, 128), (128, 128)):
        tiles = x.reshape(256 // size[0], size[0], 3, 128)
        scale = np.abs(tiles).max((1, 3), keepdims=True) / np.float32(448)
        with np.errstate(invalid="ignore"):
            y = np.where(scale == 0, np.float32(0) * tiles, tiles / scale)
        y = np.clip(y, -448, 448).astype(ml_dtypes.float8_e4m3fn).astype(np.float32)
        want = (y * scale).reshape(x.shape)
        fmt = block(f"float8_e4m3fn_{size[0]}x{size[1]}")
        assert np.array_equal(bits(quantize_blocks(x, fmt)), bits(want))


@pytest.mark.parametrize("columns", [64, 150])
def test_codebook_blocks_equal_the_codec_of_the_optimizer(columns: int) -> None:
    fmt = block("linear2_4bit_b64")
    x = torch.randn(9, columns, generator=torch.Generator().manual_seed(1))
    x[2] = 0
    x[3] *= 1e-39
    codec = RowCodec(fmt.element)  # type: ignore[arg-type]
    stored, ours = codec.store(x), encode_blocks(x, fmt)
    assert torch.equal(ours.pack()["codes"], stored["codes"])
    assert torch.equal(decode_blocks(ours), codec.restore(stored, columns))
    assert torch.equal(quantize_blocks(x, fmt), codec.restore(stored, columns))
    assert ours.scales.shape == stored["scales"].shape


@pytest.mark.parametrize(
    ("name", "theirs"),
    [("mxfp8_e4m3", "mxfp8_e4m3"), ("mxfp8_e5m2", "mxfp8_e5m2"), ("mxfp6_e3m2", "mxfp6_e3m2"),
     ("mxfp6_e2m3", "mxfp6_e2m3"), ("mxfp4_e2m1", "mxfp4_e2m1"), ("mxint8", "mxint8")],
)  # fmt: skip
def test_mx_equals_gfloat(name: str, theirs: str) -> None:
    """gfloat computes in float64, where the least scale needs no exception."""
    gfloat = pytest.importorskip("gfloat", reason="gfloat is not installed")
    formats = pytest.importorskip("gfloat.formats", reason="gfloat is not installed")
    info = next(
        f for f in vars(formats).values()
        if isinstance(f, gfloat.BlockFormatInfo) and f.name == theirs
    )  # fmt: skip
    x = spread_array(6, 64, 32, 6, -126, 118)
    got = quantize_blocks(x, block(name))
    for row in range(6):
        for at in (0, 32):
            values = x[row, at : at + 32].astype(np.float64)
            want = gfloat.quantize_block(info, values, gfloat.compute_scale_amax)
            assert np.array_equal(got[row, at : at + 32], want.astype(np.float32))


def test_minmax_equals_onnx_dynamic_quantize_linear() -> None:
    """The equation of the operator for uint8, one tensor at a time, as the ONNX page has it."""
    rng = np.random.default_rng(7)
    fmt = block("uint8_g32", scale=get_format("float32"), block=())
    for seed in range(20):
        x = (rng.standard_normal(100) * 2.0**seed + seed - 10).astype(np.float32)
        low, high = np.minimum(x.min(), np.float32(0)), np.maximum(x.max(), np.float32(0))
        scale = (high - low) / np.float32(255)
        zero = np.clip(np.rint(np.float32(0) - low / scale), 0, 255)
        codes = np.clip(np.rint(x / scale) + zero, 0, 255)
        ours = encode_blocks(x, fmt)
        assert np.array_equal(np.asarray(ours.codes), codes.astype(np.uint8))
        want = (codes - zero).astype(np.float32) * scale
        assert np.array_equal(quantize_blocks(x, fmt), want)
