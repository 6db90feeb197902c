"""Trees, two stages, scales, groups, partial sums, k orders and split-K: kernel and reference.

Beside the bits, closed forms: what a sequence or a split of K is, told without the code under test.
"""

import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from tapeout.formats import InputError, decode
from tapeout.formats.jit import set_threads
from tapeout.simulator import DotUnit, Sequence, SplitK, load_chip
from tapeout.simulator.order import AnyOrder, Chain, Order, Promotion
from tapeout.tests.test_dot_units import SPREADS, arithmetic, assert_twins, design, make_case

ROW: TypeAdapter[Order] = TypeAdapter(AnyOrder)


def row(order: str, accumulator: str = "float32", **fields: Any) -> Order:
    return ROW.validate_python({"order": order, "accumulator": accumulator, **fields})


def fused(**fields: Any) -> Order:
    return row("fused", **{"block": 32, "fraction_bits": 25, "min_exponent": -133, **fields})


def two_stage(**fields: Any) -> Order:
    return row("two_stage", **{"fraction_bits": 24, "guard_bits": 32, "sum_bits": 31, **fields})


def step(**fields: Any) -> Chain:
    order = row("chain", **fields)
    assert isinstance(order, Chain)
    return order


def grouped(scale: dict[str, Any], **fields: Any) -> Order:
    return fused(
        **{"block": 64, "group": 16, "fraction_bits": 35, "min_exponent": -139, **fields},
        scale=scale,
    )


MX, MX16, NV = ({"format": f, "block": n} for f, n in (("e8m0", 32), ("e8m0", 16), ("e4m3", 16)))
SR: dict[str, Any] = {"rounding": "stochastic", "random_bits": 8}
BF16 = row("chain", "bfloat16")
FP32: dict[str, Any] = {"accumulator": "float32"}
FLUSHED = row("chain", flush=True)
CDNA2: dict[str, Any] = {"flush": True, "flushed_inputs": "positive"}
ARM: dict[str, Any] = {"flush": True, "tininess": "before"}
LANES: dict[str, Any] = {"scope": "promotion", "flush": True, **FP32}
UNITS = {
    "fused away": design(
        "e4m3", fused(block=8, fraction_bits=12, accumulator="float16", rounding="nearest_away")
    ),
    "fused up": design(
        "bfloat16", fused(block=8, fraction_bits=24, accumulator="bfloat16", rounding="up")
    ),
    "fused down": design("e5m2", fused(block=8, accumulator="bfloat16", rounding="down")),
    "fused odd": design("float16", fused(block=16, rounding="to_odd")),
    "fused stochastic": design(
        "e4m3", fused(block=8, fraction_bits=20, accumulator="bfloat16", **SR)
    ),
    "fused fp8 in 32": design("e4m3", fused()),
    "fused bf16 in 16": design("bfloat16", fused(block=16)),
    "mxf8": design("e4m3", fused(scale=MX)),
    "mxf8 scales of 16": design("e5m2", fused(scale=MX16)),
    "mxf6 ue4m3": design("e2m3", fused(scale=NV)),
    "mxf4": design("e2m1", grouped(MX)),
    "mxf4nv e8m0": design("e2m1", grouped(MX16)),
    "nvf4": design("e2m1", grouped(NV)),
    "groups of fp8": design("e4m3", grouped(NV, block=32, group=8, fraction_bits=20, **SR)),
    "late c bf16": design("bfloat16", two_stage(block=8)),
    "late c bf16, 31 guards": design("bfloat16", two_stage(block=8, guard_bits=31, sum_bits=None)),
    "late c tf32": design("tfloat32", two_stage(block=4)),
    "late c fp16 odd": design("float16", two_stage(block=8, rounding="to_odd")),
    "late c fp8": design("e4m3fnuz", two_stage(block=16, lanes=2, drop_c=25)),
    "late c bf8": design("e5m2fnuz", two_stage(block=16, lanes=2, drop_c=25)),
    "exact fp16 in 4": design("float16", row("exact", block=4)),
    "exact bf16 in 2": design("bfloat16", row("exact", block=2)),
    "exact fp32 in 3": design("float32", row("exact", block=3, rounding="nearest_away")),
    "tree cdna2 fp16": design("float16", row("tree", group=4, **CDNA2)),
    "tree cdna2 bf16": design("bfloat16", row("tree", group=2, **CDNA2)),
    "tree arm": design(
        "bfloat16", row("tree", group=2, rounding="to_odd", overflow="infinity", **ARM)
    ),
    "tree arm ebf": design("bfloat16", row("tree", group=2, leaf=2, **ARM)),
    "tree ebf kept": design("bfloat16", row("tree", group=2, leaf=2)),
    "tree of 8": design("e5m2", row("tree", "float16", group=8, rounding="toward_zero")),
    "tree of leaves": design("bfloat16", row("tree", "bfloat16", group=16, leaf=4)),
    "tree fp32": design("float32", row("tree", group=8)),
    "tree fp32 flushed": design("float32", row("tree", group=2, flush=True)),
    "tree to infinity": design(
        "float16",
        row("tree", "float16", group=4, rounding="toward_zero", overflow="infinity"),
    ),
    "integer 4 at once": DotUnit(
        arithmetic("uint8"), arithmetic("int8"), arithmetic("int16"),
        row("integer", "int16", overflow="saturate", block=4),
    ),
    "integer pairs": DotUnit(
        arithmetic("uint8"), arithmetic("int8"), arithmetic("int32"),
        row("integer", "int32", partial="int16", group=2),
    ),
    "integer pairs, wrapped": design("int8", row("integer", "int16", partial="int12", group=2)),
    "split": design("e4m3", BF16, split=SplitK(parts=4, **FP32)),
    "split, c last": design(
        "e4m3", row("chain", "bfloat16", **SR),
        split=SplitK(parts=3, pattern="interleaved", chunk=2, c="last", combine="pairwise", **FP32),
    ),
    "split, as atomics": design(
        "e4m3", row("chain", "bfloat16", **SR), promote_every=8, promotion=step(),
        split=SplitK(parts=5, combine="permutation", seed=4, **FP32),
    ),
    "split in each promotion": design(
        "e4m3", FLUSHED, promote_every=64, promotion=FLUSHED,
        split=SplitK(parts=4, pattern="interleaved", combine="pairwise", **LANES),
    ),
    "two chains of pairs": design(
        "e5m2", row("tree", group=2, leaf=2, flush=True), promote_every=64, promotion=FLUSHED,
        split=SplitK(parts=2, pattern="interleaved", chunk=2, **LANES),
    ),
    "split mxf8": design(
        "e4m3", fused(scale=MX), promote_every=64, promotion=step(),
        split=SplitK(parts=2, chunk=32, pattern="interleaved", **FP32),
    ),
    "descending": design("e4m3", BF16, k_order=Sequence(name="descending")),
    "interleaved": design(
        "e4m3", row("chain", "bfloat16", **SR), k_order=Sequence(name="interleaved", stride=8)
    ),
    "permuted": design(
        "float16", fused(block=8, accumulator="float16"),
        k_order=Sequence(name="permutation", seed=3),
    ),
}  # fmt: skip


def scales(unit: DotUnit, m: int, k: int, n: int, spread: str, seed: int) -> dict[str, Any]:
    if unit.scale is None:
        return {}
    rng, fmt, parts = np.random.default_rng(seed), unit.scale.fmt, -(-k // unit.scale.block)
    out: dict[str, Any] = {}
    for name, shape in (("a_scale", (m, parts)), ("b_scale", (parts, n))):
        if fmt.fraction_bits == 0:
            reach = {"narrow": 2, "medium": 10}.get(spread, 127)
            values = 2.0 ** rng.integers(-reach, reach, shape)
        else:
            values = decode(rng.integers(0, 255, shape, dtype=np.uint8), fmt).astype(np.float64)
            values = np.where(np.isnan(values), 0.0, values)
        missing = (rng.random(shape) < 0.1) & (spread == "special")
        out[name] = np.where(missing, np.nan, values)
    return out


@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("name", UNITS)
def test_kernel_equals_reference(name: str, spread: str) -> None:
    unit = UNITS[name]
    for seed, (m, k, n) in enumerate([(2, 37, 3), (1, 1, 1), (3, 130, 2), (4, 8, 2)]):
        case = make_case(unit, m, k, n, spread, 10 * seed)
        assert_twins(unit, *case, **scales(unit, m, k, n, spread, seed))


@pytest.mark.slow
@pytest.mark.parametrize("name", UNITS)
def test_long_dot_products(name: str) -> None:
    unit = UNITS[name]
    for spread in ("narrow", "full"):
        case = make_case(unit, 1, 4097, 2, spread, 1)
        assert_twins(unit, *case, **scales(unit, 1, 4097, 2, spread, 1))


@pytest.mark.parametrize("name", UNITS)
def test_shapes_stacks_and_threads(name: str) -> None:
    unit = UNITS[name]
    a, b, _ = make_case(unit, 20, 70, 300, "narrow", 4)
    given = scales(unit, 20, 70, 300, "narrow", 4)
    whole = unit.matmul(a, b, seed=2, **given)
    stacks: dict[str, Any] = {key: np.stack([v, v]) for key, v in given.items()}
    stacked = unit.matmul(np.stack([a, a]), np.stack([b, b]), seed=2, **stacks)
    assert np.array_equal(stacked[0], whole)
    zeros = np.zeros((20, 300))
    tensor = unit.matmul(torch.from_numpy(a), torch.from_numpy(b), zeros, seed=2, **given)
    assert isinstance(tensor, torch.Tensor) and np.array_equal(tensor.numpy(), whole)
    for threads in (1, 2):
        set_threads(threads)
        assert unit.matmul(a, b, seed=2, **given).tobytes() == whole.tobytes()
    if unit.scale is None:
        assert unit.matmul(a[:0], b).shape == (0, 300)
        empty = unit.matmul(a[:, :0], b[:0])
        assert empty.shape == (20, 300) and not empty.any()


def test_absent_scales_are_one() -> None:
    for name in ("mxf8", "nvf4"):
        unit = UNITS[name]
        a, b, c = make_case(unit, 3, 40, 5, "medium", 0)
        ones: dict[str, Any] = {"a_scale": np.ones((3, -(-40 // unit.scale.block)))}  # type: ignore[union-attr]
        assert np.array_equal(unit.matmul(a, b, c), unit.matmul(a, b, c, **ones))


def test_guard_bits_settle_the_open_question_either_way() -> None:
    """The one vector on which two published models of CDNA3 differ: 2 or 2 + 2^-22."""
    a, b = np.zeros(8), np.zeros(8)
    a[:2], b[:2] = (2.0**-11, 2.0**-15), (2.0**-11, 2.0**-16)
    c = np.array(2 - 2.0**-23)
    assert UNITS["late c bf16"].dot(a, b, c) == 2.0
    assert UNITS["late c bf16, 31 guards"].dot(a, b, c) == 2.0 + 2.0**-22


def test_flushed_inputs_of_cdna2_are_positive_zeros() -> None:
    unit = UNITS["tree cdna2 bf16"]
    tiny, one = np.array([[-(2.0**-130), -(2.0**-130)]]), np.array([[1.0], [1.0]])
    assert not np.signbit(unit.matmul(tiny, one, np.array([[-0.0]])))
    signed = replace(unit, order=row("tree", group=2, flush=True))
    assert np.signbit(signed.matmul(tiny, one, np.array([[-0.0]])))


#: In bfloat16, 256 + 1 stays 256, so a sum of ones after 256 tells when 256 was added.
ONES = np.ones((1, 12))


def sum_of(values: list[float], **around: Any) -> float:
    unit = design("bfloat16", BF16, **around)
    return float(unit.matmul(np.array([values]), np.ones((len(values), 1)))[0, 0])


def test_k_orders_are_what_their_names_say() -> None:
    ascending = [256.0, 1, 1, 1, 1, 1, 1, 1]
    assert sum_of(ascending) == 256
    assert sum_of(ascending, k_order=Sequence(name="descending")) == 264  # 7 + 256, to even
    assert sum_of(ascending[::-1], k_order=Sequence(name="descending")) == 256
    assert list(Sequence(name="interleaved", stride=3).indices(7)) == [0, 3, 6, 1, 4, 2, 5]
    order = Sequence(name="permutation", seed=1).indices(100)
    assert sorted(order) == list(range(100)) and list(order) != list(range(100))
    assert list(order) == list(Sequence(name="permutation", seed=1).indices(100))
    assert list(order) != list(Sequence(name="permutation", seed=2).indices(100))


def test_splits_are_what_their_names_say() -> None:
    values = [256.0, 1, 1, 1, 1, 1, 1, 1]
    assert sum_of(values, split=SplitK(parts=2, accumulator="float32")) == 260  # 256 + 4
    dealt = SplitK(parts=4, pattern="interleaved", accumulator="float32")
    assert sum_of(values, split=dealt) == 262  # (256 + 1) + 2 + 2 + 2
    assert [list(k) for k in SplitK(parts=3, **FP32).members(7)] == [[0, 1, 2], [3, 4, 5], [6]]
    pairs = SplitK(parts=2, pattern="interleaved", chunk=2, **FP32)
    assert [list(k) for k in pairs.members(7)] == [[0, 1, 4, 5], [2, 3, 6]]
    rounded: dict[str, Any] = {"accumulator": "bfloat16", "parts": 4, "chunk": 1}
    four = [256.0, 1, 1, 1]
    assert sum_of(four, split=SplitK(**rounded)) == 256
    assert sum_of(four, split=SplitK(**rounded, combine="pairwise")) == 258  # (256 + 1) + (1 + 1)
    arrivals = {
        sum_of(four, split=SplitK(**rounded, combine="permutation", seed=s)) for s in range(9)
    }
    assert arrivals == {256.0, 260.0}  # 256 first or second: nothing is left of the ones


def test_c_joins_the_first_part_or_the_end() -> None:
    a, b, c = np.ones((1, 4)), np.ones((4, 1)), np.array([[256.0]])
    around: dict[str, Any] = {"parts": 2, "accumulator": "float32"}
    first = design("bfloat16", BF16, split=SplitK(**around))
    last = design("bfloat16", BF16, split=SplitK(**around, c="last"))
    assert first.matmul(a, b, c) == 258 and last.matmul(a, b, c) == 260
    assert last.matmul(a, b, np.array([[256.5]])) == 260.5 and last.addend.name == "float32"
    with pytest.raises(InputError, match=r"C holds.*256\.5.*bfloat16"):
        first.matmul(a, b, np.array([[256.5]]))


LIBRARY = Path(__file__).parent.parent / "simulator" / "chips"


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (
            'dot = { order = "tree", group = 8, leaf = 2, accumulator = "bfloat16" }\n'
            'k_order = { name = "interleaved", stride = 4 }\n'
            'promotion = { every = 2, accumulator = "float32" }\n'
            'split_k = { parts = 3, combine = "permutation", seed = 1, accumulator = "float32" }',
            ["tree over 8", "interleaved by 4", "every 2 products", "3 contiguous parts"],
        ),
        (
            'dot = { order = "fused", block = 32, fraction_bits = 20, min_exponent = -40, '
            'accumulator = "float32", rounding = "up", scale = { format = "e8m0", block = 32 } }',
            ["scaled by float8_e8m0fnu per 32", "up to float32"],
        ),
        (
            'k_order = "descending"\n'
            'dot = { order = "two_stage", block = 8, fraction_bits = 20, guard_bits = 24, '
            'accumulator = "float32" }',
            ["24 guard bits", "k order descending"],
        ),
    ],
)
def test_a_chip_file_reaches_every_order(lines: str, words: list[str], tmp_path: Path) -> None:
    text = (LIBRARY / "generic-fp8-sr.toml").read_text()
    old = next(line for line in text.splitlines() if line.startswith("dot = "))
    path = tmp_path / "mine.toml"
    path.write_text(text.replace(old, lines, 1))
    chip = load_chip(path)
    told = chip.matrix_row("e4m3", "e4m3").describe()
    assert all(word in told for word in words), told
    unit = chip.matrix_unit("e4m3", "e4m3")
    assert_twins(unit, *make_case(unit, 3, 21, 2, "medium", 0))
    path.write_text(text.replace(old, lines.replace("order = ", "odrer = ", 1), 1))
    with pytest.raises(InputError, match=r"mine\.toml"):
        load_chip(path)


def test_memory_is_a_few_times_the_operands_and_the_result() -> None:
    """float64 sums are twice a float32 result; exponents are half an operand."""
    for name in ("fused fp8 in 32", "mxf8", "late c bf16", "exact fp16 in 4", "tree cdna2 fp16"):
        unit = UNITS[name]
        a, b = (np.ones((256, 256), np.float32) for _ in range(2))
        unit.matmul(a, b, check=False)
        tracemalloc.start()
        unit.matmul(a, b, check=False)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak <= 3 * 3 * a.nbytes, f"{name}: {peak / a.nbytes:.1f} operands"


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: row("tree", group=3), ["group = 3", "power of two"]),
        (lambda: row("tree", group=2, leaf=4), ["leaf = 4", "group = 2"]),
        (lambda: row("tree", group=2, **SR), ["tree", "stochastically"]),
        (lambda: fused(group=16), ["group", "scale"]),
        (lambda: fused(scale={"format": "float16", "block": 32}), ["float16", "e8m0"]),
        (lambda: fused(scale={"format": "e8m0", "block": 24}), ["24", "block = 32"]),
        (lambda: two_stage(block=4, lanes=2), ["block = 4", "8"]),
        (lambda: two_stage(block=64, guard_bits=44), ["guard_bits = 44", "53"]),
        (lambda: row("integer", "int32", partial="int16"), ["partial", "group"]),
        (lambda: design("float16", grouped(NV)), ["float16", "53 bits"]),
        (lambda: SplitK(parts=2, seed=1, **FP32), ["seed", "permutation"]),
        (lambda: SplitK(parts=2, accumulator="e4m3"), ["e4m3", "infinity"]),
        (lambda: Sequence(name="interleaved"), ["stride"]),
        (lambda: Promotion(every=4, rounding="stochastic", **FP32), ["random_bits"]),
        (
            lambda: design("e4m3", fused(scale=MX), split=SplitK(parts=2, **FP32)),
            ["chunk = 1", "32"],
        ),
        (
            lambda: design("e4m3", BF16, split=SplitK(parts=2, scope="promotion", **FP32)),
            ["scope", "promotion"],
        ),
        (
            lambda: replace(
                UNITS["interleaved"], k_order=(), promote_every=6, promotion=step()
            ),
            ["promote_every = 6", "4"],
        ),
        (
            lambda: UNITS["descending"].matmul(ONES, ONES.T, a_scale=ONES),
            ["takes no scales"],
        ),
        (
            lambda: UNITS["mxf8"].matmul(ONES, ONES.T, a_scale=ONES),
            ["a_scale", "(1, 12)", "(1, 1)", "32"],
        ),
        (
            lambda: UNITS["mxf8"].matmul(ONES, ONES.T, a_scale=np.array([[3.0]])),
            ["a_scale", "3.0", "float8_e8m0fnu"],
        ),
    ],
)  # fmt: skip
def test_faults_are_one_sentence(build: Any, words: list[str]) -> None:
    with pytest.raises(ValueError) as refusal:
        build()
    assert all(word in str(refusal.value) for word in words), str(refusal.value)
