"""Chains: every plan that an order can be given, bit for bit against the reference."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from tapeout.formats import Stochastic, decode, get_format, quantize
from tapeout.formats.format import FloatFormat
from tapeout.formats.jit import set_threads
from tapeout.formats.random import philox_reference
from tapeout.simulator import Chain, DotUnit
from tapeout.simulator.execution.chain import _run as run_plan
from tapeout.simulator.execution.chain import run_chain
from tapeout.simulator.execution.chain_plan import Operands, Plan, choose, choose_double
from tapeout.simulator.execution.layout import Place
from tapeout.simulator.kernels import chain_steps as steps
from tapeout.simulator.kernels.chain_random import random_step_reference
from tapeout.simulator.kernels.extent import extent

KINDS = ("nearest", "odd", "zero")
REACHES = ("as is", "in place", "whole steps", "full", "flushed", "flushed as is", "fused")
SR = {"rounding": "stochastic"}


def unit(operands: str, **row: Any) -> DotUnit:
    order = Chain.model_validate({"order": "chain", **row})
    a, b = (fmt if isinstance(fmt := get_format(name), FloatFormat) else None
            for name in (operands.split() * 2)[:2])  # fmt: skip
    assert a is not None and b is not None
    return DotUnit(a, b, order.result, order)


def ruled(rule: str, operands: str, **row: Any) -> DotUnit:
    """A unit of another stochastic rule, which kernels and references have and no order names."""
    u = unit(operands, **row)
    vars(u.order)["accumulate"] = Stochastic(row["random_bits"], rule)
    return u


def chain_of(u: DotUnit) -> Chain:
    assert isinstance(u.order, Chain)
    return u.order


def told(plan: Plan) -> str:
    """A plan in words: lane, first rounding, reach of sums, and of products unless fused."""
    words = [plan.lane.__name__, KINDS[plan.kind], REACHES[plan.reach]]
    if plan.product != steps.FUSED:
        words.append("product " + REACHES[plan.product])
    return ", ".join(words)


#: name: (unit, the plan it must get for operands from all of their formats)
CASES = {
    "bf16 of e4m3": (
        unit("e4m3", accumulator="bfloat16"), "float32, nearest, in place"),
    "bf16": (
        unit("bfloat16", accumulator="bfloat16"), "float32, odd, in place"),
    "bf16 of fp16 and e5m2": (
        unit("float16 e5m2", accumulator="bfloat16"), "float32, odd, in place"),
    "e8m3 away": (
        unit("e4m3", accumulator="e8m3", rounding="nearest_away"), "float32, odd, in place"),
    "tf32 zero": (
        unit("tfloat32", accumulator="tfloat32", rounding="toward_zero"),
        "float32, zero, in place"),
    "fp32 zero": (
        unit("bfloat16", accumulator="float32", rounding="toward_zero"),
        "float32, zero, in place"),
    "fp32 up": (
        unit("bfloat16", accumulator="float32", rounding="up"), "float64, odd, full"),
    "e8m20 down": (
        unit("float16", accumulator="e8m20", rounding="down"), "float32, odd, in place"),
    "e5m9 of e4m3": (
        unit("e4m3", accumulator="e5m9"),
        "float32, odd, whole steps",
    ),
    "e5m10 of e5m2": (
        unit("e5m2", accumulator="e5m10"),
        "float16, nearest, as is",
    ),
    "fp16 of e4m3": (
        unit("e4m3", accumulator="float16"), "float16, nearest, as is"),
    "fp16": (
        unit("float16", accumulator="float16"), "float32, odd, full"),
    "e5m7 down": (
        unit("e5m2", accumulator="e5m7", rounding="down"), "float32, odd, full"),
    "e4m6 odd": (
        unit("e4m3", accumulator="e4m6", rounding="to_odd"), "float32, odd, full"),
    "e4m4 zero": (
        unit("e4m3", accumulator="e4m4", rounding="toward_zero"), "float32, zero, full"),
    "e6m1 up": (
        unit("e5m2", accumulator="e6m1", rounding="up"), "float32, odd, full"),
    "e8m25": (
        unit("e8m25", accumulator="e8m25"), "float64, odd, full"),
    "fp32 of e8m25": (
        unit("e8m25", accumulator="float32"), "float64, odd, full"),
    "bf16 unfused of e4m3": (
        unit("e4m3", accumulator="bfloat16", fused=False),
        "float32, nearest, in place, product in place"),
    "bf16 unfused zero": (
        unit("bfloat16", accumulator="bfloat16", fused=False, rounding="toward_zero"),
        "float64, odd, whole steps, product full"),
    "fp16 unfused": (
        unit("float16", accumulator="float16", fused=False),
        "float32, odd, whole steps, product full"),
    "fp32 unfused": (
        unit("tfloat32", accumulator="float32", fused=False),
        "float32, nearest, as is, product as is"),
    "fp32": (unit("float32", accumulator="float32"), "float32, nearest, as is"),
    "fp64": (unit("float64", accumulator="float64"), "float64, nearest, as is"),
    "fp32 flushed, 2 lanes": (
        unit("bfloat16", accumulator="float32", flush=True, lanes=2),
        "float32, nearest, flushed as is"),
    "fp32 flushed of fp32": (
        unit("float32", accumulator="float32", flush=True), "float32, nearest, flushed as is"),
    "fp32 flushed zero": (
        unit("float32", accumulator="float32", flush=True, rounding="toward_zero"),
        "float64, zero, flushed"),
    "fp32 flushed unfused": (
        unit("bfloat16", accumulator="float32", flush=True, fused=False),
        "float64, odd, flushed, product full"),
    "bf16 sr1": (
        unit("e5m2", accumulator="bfloat16", random_bits=1, **SR), "float32, zero, in place"),
    "bf16 sr8": (
        unit("e4m3", accumulator="bfloat16", random_bits=8, **SR), "float32, zero, in place"),
    "bf16 sr16": (
        unit("bfloat16", accumulator="bfloat16", random_bits=16, **SR), "float64, zero, full"),
    "bf16 sr17": (
        unit("e4m3", accumulator="bfloat16", random_bits=17, **SR),
        "float64, zero, whole steps"),
    "fp16 sr11": (
        unit("float16", accumulator="float16", random_bits=11, **SR), "float32, zero, full"),
    "fp16 sr30": (
        unit("e4m3", accumulator="float16", random_bits=30, **SR),
        "float64, zero, whole steps"),
    "bf16 sr4, 3 lanes": (
        unit("e4m3", accumulator="bfloat16", random_bits=4, lanes=3, **SR),
        "float32, zero, in place"),
    "bf16 srf8": (
        ruled("srf", "e4m3", accumulator="bfloat16", random_bits=8, **SR),
        "float32, zero, in place"),
    "e4m6 src6": (
        ruled("src", "e5m2", accumulator="e4m6", random_bits=6, **SR), "float32, odd, full"),
    "fp16 unfused sr4": (
        unit("float16", accumulator="float16", random_bits=4, fused=False, **SR),
        "float32, odd, whole steps, product full"),
}  # fmt: skip
#: Cases that compile few kernels between them and still take every step of every kind.
QUICK = (
    "bf16 of e4m3", "bf16", "bf16 of fp16 and e5m2", "fp32 zero", "fp32 up", "fp16",
    "e5m10 of e5m2", "fp16 of e4m3", "e4m6 odd", "fp32 of e8m25", "bf16 unfused zero", "fp32",
    "fp32 flushed, 2 lanes", "fp32 flushed of fp32", "fp32 flushed zero", "bf16 sr8",
    "bf16 sr4, 3 lanes", "fp16 sr30", "e4m6 src6",
)  # fmt: skip
SPREADS = ("narrow", "medium", "full", "cancelling", "huge", "tiny", "special")
SHAPES = ((2, 37, 5), (1, 1, 1), (5, 3, 2), (9, 18, 35))


def values(fmt: FloatFormat, shape: tuple[int, ...], spread: str, seed: int) -> np.ndarray:
    """Values of a format: of similar size, of all exponents, next to one of its ends, special."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    x[rng.random(shape) < 0.1] *= 0.0
    if spread == "medium":
        x *= 2.0 ** rng.integers(-6, 6, shape)
    elif spread in ("full", "special") and fmt.bits <= 16:
        codes = rng.integers(0, 2**fmt.bits, shape, dtype=np.uint16)
        x = decode(codes, fmt).astype(np.float64)
    elif spread in ("full", "special"):
        x *= 2.0 ** rng.integers(
            max(fmt.min_exponent - 20, -1000), min(fmt.max_exponent, 1000), shape
        )
    elif spread == "huge":
        x *= 2.0 ** (fmt.max_exponent // 2 + rng.integers(-2, 2, shape))
    elif spread == "tiny":
        x *= 2.0 ** (fmt.min_exponent // 2 + rng.integers(-3, 3, shape))
    x = np.where(np.isfinite(x), x, 0.0)
    if spread == "special":
        hit = rng.random(shape)
        x = np.where(
            hit < 0.04, np.inf, np.where(hit < 0.06, np.nan, np.where(hit < 0.1, -np.inf, x))
        )
        x = x if fmt.infinity else np.where(np.isinf(x), 0.0, x)
    rounded: np.ndarray = quantize(x, fmt, overflow="infinity" if fmt.infinity else "saturate")
    return rounded


def make_case(u: DotUnit, m: int, k: int, n: int, spread: str, seed: int) -> tuple[np.ndarray, ...]:
    fmts = [u.a, u.b, u.order.result]
    shapes = [(m, k), (k, n), (m, n)]
    a, b, c = (
        values(fmt, shape, spread, seed + i)  # type: ignore[arg-type]
        for i, (fmt, shape) in enumerate(zip(fmts, shapes, strict=True))
    )
    if spread == "huge":
        c *= 0.0
    if spread == "cancelling" and k > 1:
        b[k // 2 :] = b[: k - k // 2]
        a[:, k // 2 :] = -a[:, : k - k // 2]
    return a, b, c


def compute(u: DotUnit, a: np.ndarray, b: np.ndarray, c: np.ndarray | None) -> np.ndarray:
    """By the unit, or for accumulators that float32 does not hold by what it calls."""
    if u.order.result.precision <= 24 or u.order.accumulator == "float64":
        return np.asarray(u.matmul(a, b, c, seed=3, stream=5), np.float64)
    start = np.zeros((a.shape[0], b.shape[1])) if c is None else c
    place = Place(3, 5, 0, a.shape[1])
    out: np.ndarray = run_chain(chain_of(u), a[None], b[None], start[None], (u.a, u.b), place)[0]
    return out


def assert_twins(u: DotUnit, a: np.ndarray, b: np.ndarray, c: np.ndarray | None) -> None:
    got = compute(u, a, b, c)
    want = u.reference.matmul(a, b, c, seed=3, stream=5)
    same = (got == want) & (np.signbit(got) == np.signbit(want)) | (np.isnan(got) & np.isnan(want))
    first = tuple(int(i[0]) for i in np.nonzero(~same)) if not same.all() else ()
    assert same.all(), f"{first}: kernel {got[first]!r}, reference {want[first]!r}"


def plan_of(u: DotUnit, a: np.ndarray, b: np.ndarray) -> Plan:
    return choose(chain_of(u), Operands(a[None], b[None], (u.a, u.b)))


@pytest.mark.parametrize("name", CASES)
def test_each_order_gets_its_plan(name: str) -> None:
    """By operands of all exponents; of some, a plan may be one that needs less."""
    u, plan = CASES[name]
    fmt_a, fmt_b = u.a, u.b
    assert isinstance(fmt_a, FloatFormat) and isinstance(fmt_b, FloatFormat)
    a, b = (np.array([[f.largest, f.min_subnormal]]) for f in (fmt_a, fmt_b))
    assert told(plan_of(u, a, b.T)) == plan


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in CASES]
)
def test_kernel_equals_reference(name: str) -> None:
    u, _ = CASES[name]
    for i, spread in enumerate(SPREADS):
        for seed, shape in enumerate(SHAPES[i % 2 :: 2]):
            assert_twins(u, *make_case(u, *shape, spread, 100 * i + 10 * seed))


@pytest.mark.parametrize("name", ["bf16", "fp16 of e4m3", "bf16 sr8", "fp32 flushed, 2 lanes"])
def test_shapes_stacks_and_absent_c(name: str) -> None:
    u, _ = CASES[name]
    assert isinstance(u.a, FloatFormat) and isinstance(u.b, FloatFormat)
    a, b = values(u.a, (2, 70, 20), "narrow", 0), values(u.b, (2, 20, 3), "narrow", 1)
    whole = u.matmul(a, b, seed=1)
    assert whole.shape == (2, 70, 3)
    columns = np.broadcast_to(b.swapaxes(1, 2)[:, None], (2, 70, 3, 20))
    rows = np.broadcast_to(a[:, :, None], (2, 70, 3, 20))
    some = (slice(None), slice(0, 70, 30))
    if chain_of(u).random_bits is None:
        assert np.array_equal(whole[some], u.reference.dot(rows[some], columns[some]))
        assert np.array_equal(whole, u.dot(rows, columns))
    else:
        assert np.array_equal(whole, u.dot(rows, columns, seed=1))
    assert np.array_equal(whole, u.matmul(a, b, np.zeros((2, 70, 3)), seed=1))
    assert u.matmul(a[0, :0], b[0]).shape == (0, 3)
    assert u.matmul(a[0], b[0][:, :0]).shape == (70, 0)
    empty = u.matmul(a[0][:, :0], b[0][:0])
    assert empty.shape == (70, 3) and not empty.any()


@pytest.mark.parametrize("name", ["bf16 of e4m3", "fp16", "bf16 sr8", "fp16 sr30", "fp32"])
def test_bytes_do_not_depend_on_threads_or_sides(name: str) -> None:
    """Several tiles; the narrow product runs along its rows, and keeps each output's bits."""
    u, _ = CASES[name]
    a, b, c = make_case(u, 150, 33, 700, "medium", 4)
    results = []
    for threads in (1, 2):
        set_threads(threads)
        results.append(np.asarray(u.matmul(a, b, c, seed=8)))
    assert results[0].tobytes() == results[1].tobytes()
    if chain_of(u).random_bits is None:
        assert np.array_equal(u.matmul(a, b[:, :3], c[:, :3]), results[0][:, :3], equal_nan=True)


@pytest.mark.parametrize("bits", [1, 8, 11, 16, 17])
def test_a_step_takes_its_place_in_a_block(bits: int) -> None:
    """By the words of the paper's Philox: bytes, halfwords or words, from the low end on."""
    share = 16 if bits <= 8 else 8 if bits <= 16 else 4
    width = 128 // share
    for output, step in ((0, 0), (3, 5), (2, 36), (70000, 15)):
        block = output * math.ceil(37 / share) + step // share
        words = philox_reference((block, 0, 5, 0), (3, 0))
        lane = sum(w << 32 * i for i, w in enumerate(words)) >> (width * (step % share))
        want = (lane % 2**width) >> (width - bits)
        assert random_step_reference(3, 5, output, step, 37, bits) == want


@pytest.mark.parametrize("every", [4, 12, 20, 100])
def test_segments_of_any_length_take_the_bits_of_their_steps(every: int) -> None:
    """A chain in two calls, cut where no block ends, is the chain in one."""
    u, _ = CASES["bf16 sr8"]
    a, b, c = make_case(u, 3, 37, 5, "medium", 1)
    order, formats = chain_of(u), (u.a, u.b)
    assert isinstance(order, Chain)
    at = Place(3, 5, 0, 37)
    c = run_chain(order, a[None, :, :every], b[None, :every], c[None], formats, at)
    at = at._replace(k_first=every)
    c = run_chain(order, a[None, :, every:], b[None, every:], c, formats, at)
    whole = u.matmul(a, b, make_case(u, 3, 37, 5, "medium", 1)[2], seed=3, stream=5)
    assert np.array_equal(c[0], whole)


def test_a_flush_looks_at_the_sum_with_an_unbounded_exponent() -> None:
    """Sums next to 2^-126: c - d 2^-151 for d = 1 is a tie that reaches 2^-126, above it flushes.

    Rounded as a subnormal, all of d <= 2 would reach it.
    """
    u, _ = CASES["fp32 flushed of fp32"]
    smallest = 2.0**-126
    for d in (0.5, 1.0, 1.0 + 2**-20, 1.5, 2.0, 3.0):
        a, b = np.array([[-d * 2.0**-76]]), np.array([[2.0**-75]])
        c = np.array([[smallest]])
        assert_twins(u, a, b, c)
        assert_twins(u, -a, b, -c)
        assert u.matmul(a, b, c).item() == (smallest if d <= 1 else 0.0)
    rng = np.random.default_rng(0)
    signs = rng.choice([-1.0, 1.0], (2, 200))
    c = smallest * (1 + rng.integers(0, 4, 200) * 2.0**-23) * signs[0]
    a = (smallest * 2.0**-22 * rng.random(200) * 2.0**60).astype(np.float32) * signs[1]
    for x, y in zip(a, c, strict=True):
        assert_twins(u, np.array([[x]]), np.array([[2.0**-60]]), np.array([[y]]))


@pytest.mark.parametrize("name", ["bf16", "fp16", "bf16 sr8", "e4m4 zero", "fp32 flushed, 2 lanes"])
def test_nan_with_all_payload_bits_stays_nan(name: str) -> None:
    u, _ = CASES[name]
    full = np.array([0x7FFFFFFF, 0xFFFFFFFF], np.uint32).view(np.float32)
    for x in full:
        a, b, c = (np.full((1, 1), v, np.float32) for v in (x, 1.0, 1.0))
        assert np.isnan(u.matmul(a, b, c)).all() and np.isnan(u.matmul(c, b, a)).all()


@pytest.mark.parametrize("name", ["bf16 sr8", "bf16 of e4m3", "fp32 flushed of fp32"])
def test_sums_next_to_the_end_of_float32(name: str) -> None:
    """Stochastic and flushed sums leave float32 lanes where these overflow before the format."""
    u, _ = CASES[name]
    c = np.array([[u.order.result.largest, -u.order.result.largest, 2.0**127]])
    a = np.full((1, 30), 256.0)
    b = np.where(np.arange(90).reshape(30, 3) % 2, 1.0, -1.0) * 2.0**8
    assert_twins(u, a, b, c)


def test_extent_of_an_array() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal(50) * 2.0 ** rng.integers(-300, 300, 50)
    x[::7], x[3], x[4] = 0.0, np.inf, np.nan
    low, high = extent(x)
    finite = [Fraction(v) for v in x if np.isfinite(v) and v]
    tails = [f.numerator & -f.numerator for f in finite]
    lows = [t.bit_length() - f.denominator.bit_length() for t, f in zip(tails, finite, strict=True)]
    assert low == min(lows) and high == max(abs(f) for f in finite)
    assert extent(np.zeros(3, np.float32)) == (1100, 0.0)


def test_a_float16_chain_is_torch_in_half() -> None:
    """Products of e4m3 are exact in float16, so torch's rank-1 updates round as the chain does."""
    torch = pytest.importorskip("torch")
    u, _ = CASES["fp16 of e4m3"]
    a, b, _ = make_case(u, 20, 64, 30, "narrow", 2)
    x, y = torch.from_numpy(a).half(), torch.from_numpy(b).half()
    c = torch.zeros(20, 30, dtype=torch.float16)
    for k in range(64):
        c = c + x[:, k : k + 1] * y[k : k + 1]
    assert np.array_equal(u.matmul(a, b), c.double().numpy())


@pytest.mark.slow
def test_float64_lanes_equal_float32_lanes() -> None:
    """Two computations with different first roundings, on many outputs."""
    for name, (u, plan) in CASES.items():
        if not plan.startswith("float32") or "as is" in plan or chain_of(u).random_bits:
            continue
        a, b, c = make_case(u, 24, 40, 30, "full", 5)
        x = Operands(a[None].astype(np.float32), b[None].astype(np.float32), (u.a, u.b))
        single, double = choose(chain_of(u), x), choose_double(chain_of(u), x)
        results = [run_plan(chain_of(u), p, x, c[None], Place(), 0) for p in (single, double)]
        assert single.lane is np.float32 and double.lane is np.float64
        assert np.array_equal(results[0], results[1], equal_nan=True), name
