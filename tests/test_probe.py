"""Probing: the order found from outputs alone is the order that computed them."""

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from tapeout.__main__ import cli
from tapeout.formats import InputError, get_format, quantize
from tapeout.formats.format import ArithmeticFormat, FloatFormat, IntegerFormat
from tapeout.simulator import load_chip
from tapeout.simulator.dot_unit import DotUnit
from tapeout.simulator.order import Chain, Sequence, SplitK
from tapeout.simulator.probing import (
    C,
    Node,
    Probed,
    Target,
    chip_text,
    find_structure,
    function_target,
    probe,
    reveal,
    show_tree,
    torch_target,
    tree_of,
    unit_target,
)
from tapeout.simulator.probing.construction import _by_counts, _by_single_units
from tapeout.simulator.probing.masks import Bench, choose_mask
from tapeout.simulator.probing.node import Tree, absorbed, join

Array = NDArray[Any]

UNITS = {
    "H100 fp8": ("nvidia-h100", "float8_e4m3fn", "float8_e5m2", "float32", "wgmma"),
    "H100 fp8 through fp16": (
        "nvidia-h100",
        "float8_e4m3fn",
        "float8_e4m3fn",
        "float16",
        "mma.sync",
    ),
    "H100 bf16": ("nvidia-h100", "bfloat16", "bfloat16", "float32", None),
    "A100 fp16": ("nvidia-a100", "float16", "float16", "float16", None),
    "V100": ("nvidia-v100", "float16", "float16", "float32", None),
    "AMX": ("intel-sapphire-rapids", "bfloat16", "bfloat16", "float32", "tdpbf16ps"),
    "AVX512-BF16": ("intel-sapphire-rapids", "bfloat16", "bfloat16", "float32", "vdpbf16ps"),
    "CDNA1": ("amd-mi100", "float16", "float16", "float32", None),
    "CDNA2": ("amd-mi250x", "bfloat16", "bfloat16", "float32", None),
    "CDNA3": ("amd-mi300x", "float16", "float16", "float32", None),
    "Arm BFDOT": ("arm-neoverse", "bfloat16", "bfloat16", "float32", "bfdot"),
    "TPU": ("google-tpu-v4i", "bfloat16", "bfloat16", "float32", None),
    "stochastic": ("generic-fp8-sr", "bfloat16", "bfloat16", "bfloat16", None),
    "FMA": ("ieee-float32", "float32", "float32", "float32", None),
}


def chip_unit(name: str) -> DotUnit:
    chip, a, b, output, instruction = UNITS[name]
    return load_chip(chip).matrix_unit(a, b, output if chip != "generic-fp8-sr" else None,
                                       instruction)  # fmt: skip


def float32_unit(**around: Any) -> DotUnit:
    fmt = get_format("float32")
    assert isinstance(fmt, FloatFormat)
    order = around.pop("order", Chain(order="chain", accumulator="float32"))
    return DotUnit(fmt, fmt, fmt, order, **around)


def split(**keys: Any) -> SplitK:
    return SplitK(accumulator="float32", **keys)


STEP = Chain(order="chain", accumulator="float32")
AROUND: dict[str, dict[str, Any]] = {
    "descending": {"k_order": Sequence(name="descending")},
    "interleaved": {"k_order": Sequence(name="interleaved", stride=8)},
    "permutation": {"k_order": Sequence(name="permutation", seed=3)},
    "four lanes": {"order": Chain(order="chain", accumulator="float32", lanes=4)},
    "promotion": {"promote_every": 16, "promotion": STEP},
    "split in 4": {"split": split(parts=4)},
    "split, C last": {"split": split(parts=4, c="last")},
    "split dealt": {"split": split(parts=3, pattern="interleaved", chunk=4)},
    "split, pairwise": {"split": split(parts=5, combine="pairwise")},
    "toward zero": {"order": Chain(order="chain", accumulator="float32", rounding="toward_zero")},
    "up": {"order": Chain(order="chain", accumulator="float32", rounding="up")},
    "bfloat16": {"order": Chain(order="chain", accumulator="bfloat16", rounding="to_odd")},
}


@pytest.mark.parametrize("name", UNITS)
def test_tree_of_a_chip_is_that_of_its_profile(name: str) -> None:
    unit = chip_unit(name)
    for depth in (1, 2, 3, 5, 16, 19, 33):
        found = reveal(unit_target(unit), depth)
        assert found.differ == 0
        assert found.tree == tree_of(unit, depth), (depth, show_tree(found.tree))


@pytest.mark.parametrize("around", AROUND)
def test_what_surrounds_an_order_is_in_the_tree(around: str) -> None:
    unit = float32_unit(**AROUND[around])
    for depth in (7, 36):
        found = reveal(unit_target(unit), depth)
        assert found.differ == 0 and found.tree == tree_of(unit, depth), show_tree(found.tree)


@pytest.mark.parametrize("name", ["H100 bf16", "AMX", "CDNA2"])
def test_trees_of_64_products(name: str) -> None:
    unit = chip_unit(name)
    assert reveal(unit_target(unit), 64).tree == tree_of(unit, 64)


@pytest.mark.parametrize("depth", range(1, 65))
def test_every_length_of_a_chain(depth: int) -> None:
    unit = float32_unit()
    assert reveal(unit_target(unit), depth).tree == tree_of(unit, depth)


def test_profiles_trees_are_those_drawn_by_hand() -> None:
    """The trees that the tests compare with, against the documented orders."""
    drawn = {
        "H100 fp8 through fp16": (8, "(C {{0 1 4 5} 2 3 6 7})"),
        "AMX": (6, "(C (((0 2) 4) ((1 3) 5)))"),
        "AVX512-BF16": (4, "((((C 1) 0) 3) 2)"),
        "CDNA1": (6, "[[C 0..3] 4 5]"),
        "CDNA2": (6, "((C ((0 1) (2 3))) (4 5))"),
        "CDNA3": (9, "({C 0..7} 8)"),
        "V100": (6, "{{C 0..3} 4 5}"),
        "FMA": (3, "(((C 0) 1) 2)"),
    }
    for name, (depth, text) in drawn.items():
        assert show_tree(reveal(unit_target(chip_unit(name)), depth).tree) == text, name


@pytest.mark.parametrize("name", ["AMX", "CDNA2", "H100 bf16", "FMA"])
def test_counts_and_single_units_find_the_same_tree(name: str) -> None:
    bench = Bench(unit_target(chip_unit(name)), 20)
    mask = choose_mask(bench)
    counted, single = _by_counts(bench, mask), _by_single_units(bench, mask)
    assert counted is not None and counted.tree == single.tree
    assert counted.differ == single.differ == 0
    assert counted.outputs < single.outputs


def test_random_trees_are_recovered() -> None:
    """Of every shape: binary, fused and exact additions in any nesting, in exact fractions."""
    rng = np.random.default_rng(7)
    for _ in range(25):
        tree = draw_tree(rng, list(rng.permutation(int(rng.integers(3, 14)))))
        found = reveal(tree_target(tree), len(absorbed_leaves(tree)))
        assert found.tree == tree, (show_tree(found.tree), show_tree(tree))


def draw_tree(rng: np.random.Generator, members: list[int]) -> Tree:
    if len(members) == 1:
        return int(members[0])
    cuts = np.unique(rng.integers(1, len(members), int(rng.integers(1, 4))))
    parts = [draw_tree(rng, list(part)) for part in np.split(np.array(members), cuts)]
    return join(parts, bool(rng.integers(2)))


def absorbed_leaves(tree: Tree) -> set[int]:
    return {leaf for pair in absorbed(tree) for leaf in pair}


def tree_target(tree: Tree) -> Target:
    """float32 sums in the order of the tree; a fused addition keeps 30 bits below its largest."""

    def add(node: Tree, products: Array) -> Array:
        if isinstance(node, int):
            return products[:, node]
        terms = np.stack([add(child, products) for child in node.children], 1)
        if len(node.children) > 2 and not node.exact:
            unit = 2.0 ** (np.floor(np.log2(np.maximum(np.abs(terms).max(1), 2.0**-140))) - 30)
            terms = np.trunc(terms / unit[:, None]) * unit[:, None]
        sums = [math.fsum(row) for row in terms.tolist()]
        return np.array(sums).astype(np.float32).astype(np.float64)

    def call(a: Array, b: Array) -> Array:
        return add(tree, a.astype(np.float64) * b)

    return callable_target(call)


def callable_target(call: Callable[..., Any], fmt: str = "float32") -> Target:
    of = get_format(fmt)
    assert isinstance(of, FloatFormat | IntegerFormat)
    return Target("a test's function", of, of, of, call)


def sequential(a: Array, b: Array) -> Array:
    total = np.zeros(len(a), a.dtype)
    for k in range(a.shape[1]):
        total = total + a[:, k] * b[:, k]
    return total


def backwards(a: Array, b: Array) -> Array:
    return sequential(a[:, ::-1], b[:, ::-1])


def halves(a: Array, b: Array) -> Array:
    """x[i] + x[i + n / 2] until one is left."""
    x = a * b
    while x.shape[1] > 1:
        half = x.shape[1] // 2
        x = x[:, :half] + x[:, half:]
    return x[:, 0]


def neighbours(a: Array, b: Array) -> Array:
    x = a * b
    while x.shape[1] > 1:
        x = x[:, ::2] + x[:, 1::2]
    return x[:, 0]


def fsum(a: Array, b: Array) -> Array:
    products = a.astype(np.float64) * b.astype(np.float64)
    return np.array([math.fsum(row) for row in products.tolist()])


def test_hand_written_functions() -> None:
    def shown(call: Callable[..., Any], depth: int) -> str:
        return show_tree(reveal(callable_target(call), depth).tree)

    assert shown(sequential, 5) == "((((0 1) 2) 3) 4)"
    assert shown(backwards, 5) == "(0 (1 (2 (3 4))))"
    assert shown(halves, 8) == "(((0 4) (2 6)) ((1 5) (3 7)))"
    assert shown(neighbours, 8) == "(((0 1) (2 3)) ((4 5) (6 7)))"


def test_fsum_is_one_exact_sum() -> None:
    found = probe(callable_target(fsum), 12, 512)
    assert found.revealed.tree == Node(tuple(range(12)), exact=True)
    assert not found.revealed.mask.absorbs
    assert found.structure is not None and found.structure.order == {"order": "exact"}


@pytest.mark.parametrize("depth", [1, 3, 8, 17, 40, 64])
def test_numpy_dot_is_some_tree_of_all_products(depth: int) -> None:
    """Which one is the library's business; that one was found says the count of differences."""

    def call(a: Array, b: Array) -> Array:
        return np.array([np.dot(x, y) for x, y in zip(a, b, strict=True)])

    found = reveal(callable_target(call), depth)
    assert found.differ == 0
    assert absorbed_leaves(found.tree) == (set(range(depth)) if depth > 1 else set())


def test_numpy_pairwise_sum_below_its_block() -> None:
    """np.add.reduce of 8 to 128 numbers: eight lanes, then their pairwise sum (numpy docs)."""
    found = reveal(callable_target(lambda a, b: np.add.reduce(a * b, axis=1)), 24)
    lanes = [join([join([n, n + 8]), n + 16]) for n in range(8)]
    pairs = [join(lanes[n : n + 2]) for n in range(0, 8, 2)]
    assert found.tree == join([join(pairs[:2]), join(pairs[2:])])


def probed(name: str, depth: int = 48) -> Probed:
    return probe(unit_target(chip_unit(name)), depth, 1024)


@pytest.mark.parametrize("name", [name for name in UNITS if name != "stochastic"])
def test_row_has_the_profiles_values_and_reproduces_the_unit(name: str) -> None:
    unit, found = chip_unit(name), probed(name)
    assert found.row is not None and found.reproduced, found.agreement
    assert not any(agreement.zero_signs for agreement in found.agreement.values())
    got = found.row.dot.model_dump()
    wanted = unit.order.model_dump()
    free = {part.removeprefix("dot.") for part in found.assumed}
    assert {k: v for k, v in got.items() if k not in free} == {
        k: v for k, v in wanted.items() if k not in free
    }
    assert found.row.k_order == unit.k_order
    assert (found.row.promotion.every if found.row.promotion else None) == unit.promote_every


def test_widths_are_found_not_assumed() -> None:
    for name, bits, kept, mode in (
        ("H100 fp8", 13, 13, "toward_zero"), ("H100 bf16", 25, 23, "toward_zero"),
        ("A100 fp16", 24, 10, "nearest_even"), ("V100", 23, 23, "toward_zero"),
    ):  # fmt: skip
        values = {f.name: f.value for f in probed(name).findings}
        assert (values["fraction_bits"], values["accumulator_bits"]) == (bits, kept)
        assert (values["term_rounding"], values["rounding"]) == ("toward_zero", mode)


@pytest.mark.parametrize(
    "mode", ["nearest_even", "nearest_away", "toward_zero", "up", "down", "to_odd"]
)
def test_every_rounding_is_told_apart(mode: str) -> None:
    narrow = [("e8m11", 11)] if mode in ("nearest_away", "up") else []
    for accumulator, bits in (("float32", 23), *narrow):
        order = Chain(order="chain", accumulator=accumulator, rounding=mode, fused=False)
        found = probe(unit_target(float32_unit(order=order)), 6, 512)
        values = {f.name: f.value for f in found.findings}
        assert (values["rounding"], values["accumulator_bits"]) == (mode, bits)
        assert values["product_fused"] is False
        assert found.reproduced and found.row is not None and found.row.dot == order


def test_stochastic_rounding_is_seen_with_its_bits() -> None:
    for bits in (7,):
        order = Chain(order="chain", accumulator="bfloat16", rounding="stochastic",
                      random_bits=bits)  # fmt: skip
        found = probe(unit_target(float32_unit(order=order)), 4, 64)
        values = {f.name: f.value for f in found.findings}
        assert (values["rounding"], values["random_bits"]) == ("stochastic", bits)
        assert found.row is not None and not found.agreement and "stochastic" in found.why


def test_saturation_and_float64() -> None:
    def clamped(a: Array, b: Array) -> Array:
        largest = np.finfo(np.float32).max
        return np.clip(sequential(a, b), -largest, largest)

    values = {f.name: f.value for f in probe(callable_target(clamped), 4, 64).findings}
    assert values["overflow"] == "saturate"
    wide = {f.name: f.value for f in probe(callable_target(sequential, "float64"), 4, 64).findings}
    assert (wide["accumulator_bits"], wide["rounding"]) == (52, "nearest_even")
    assert wide["product_fused"] is False


def test_order_outside_the_families_is_said_plainly() -> None:
    odd = tree_target(join([join([0, 3, 4]), join([1, join([2, 5])])]))
    found = probe(odd, 6, 64)
    assert found.structure is None and found.row is None
    assert found.why == "no order family has this tree"


def test_narrow_output_of_a_wide_sum() -> None:
    """float32 sums rounded to bfloat16 once, at the end."""

    def call(a: Array, b: Array) -> Array:
        sums = np.asarray(sequential(a, b), np.float32)
        return np.asarray(quantize(sums, "bfloat16", overflow="infinity"), np.float64)

    found = probe(callable_target(call, "bfloat16"), 9, 512)
    values = {f.name: f.value for f in found.findings}
    assert (values["inner_bits"], values["accumulator_bits"]) == (23, 7)
    assert found.reproduced and found.row is not None
    assert found.row.dot.model_dump()["accumulator"] == "float32"
    assert found.row.promotion is not None and found.row.promotion.accumulator == "bfloat16"


def test_target_whose_order_varies_is_not_explained() -> None:
    rng = np.random.default_rng(1)

    def call(a: Array, b: Array) -> Array:
        order = np.array([rng.permutation(a.shape[1]) for _ in a])
        return sequential(*(np.take_along_axis(x, order, 1) for x in (a, b)))

    found = probe(callable_target(call), 8, 64)
    assert found.row is None and "no tree explains" in found.why


def test_written_chip_loads_and_computes_as_the_target(tmp_path: Path) -> None:
    unit = chip_unit("AMX")
    path = tmp_path / "mine.toml"
    path.write_text(chip_text(probe(unit_target(unit), 70, 512), "mine", "2026-01-31"))
    chip = load_chip(path)
    row = chip.matrix_row("bf16", "bf16")
    assert row.evidence_of("dot").basis == "measured"
    assert "2026-01-31" in row.evidence_of("dot").source
    assert row.evidence_of("a").basis == chip.vector_unit.basis == "assumed"
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-256, 256, (500, 150)).astype(np.float32) for _ in range(2))
    mine = chip.matrix_unit("bf16", "bf16").dot(a, b)
    assert np.array_equal(mine, unit.dot(a, b))


def test_torch_and_functions_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for dtype in ("float32", "float64"):
        found = reveal(torch_target(dtype), 9)
        assert absorbed_leaves(found.tree) == set(range(9))
    with pytest.raises(InputError, match="not of the form"):
        function_target("math", "float32", "float32", "float32")
    with pytest.raises(InputError, match="cannot be imported"):
        function_target("math:absent", "float32", "float32", "float32")
    with pytest.raises(InputError, match="not a function"):
        function_target("math:pi", "float32", "float32", "float32")


def test_targets_that_cannot_be_probed() -> None:
    with pytest.raises(InputError, match="not one of 1 to 128"):
        reveal(callable_target(sequential), 129)
    with pytest.raises(InputError, match="the call failed: ZeroDivisionError"):
        reveal(callable_target(lambda a, b: 1 / 0), 4)
    with pytest.raises(InputError, match=r"returned shape \(\)"):
        reveal(callable_target(lambda a, b: 0.0), 4)
    with pytest.raises(InputError, match="cannot be probed"):
        reveal(callable_target(lambda a, b: np.abs(a * b).max(1)), 4)
    with pytest.raises(InputError, match="is an integer"):
        reveal(callable_target(sequential, "int8"), 4)


def test_formats_are_checked() -> None:
    fmt: ArithmeticFormat = callable_target(sequential).a
    assert fmt.name == "float32" and tree_of(float32_unit(), 2) == Node((Node((C, 0)), 1))
    structure = find_structure(tree_of(float32_unit(), 6), 6, True)
    assert structure is not None and structure.describe() == "a chain, k ascending"


def test_command_line_writes_a_chip_and_json(tmp_path: Path) -> None:
    out = tmp_path / "found.toml"
    arguments = ["probe", "--chip", "nvidia-v100", "1", "--k", "10", "--cases", "256"]
    result = CliRunner().invoke(cli, [*arguments, "--out", str(out), "--json"],
                                standalone_mode=False)  # fmt: skip
    assert result.return_value == 0
    told = json.loads(result.output)
    assert told["tree"] == [[["C", 0, 1, 2, 3], 4, 5, 6, 7], 8, 9]
    assert told["row"]["dot"]["fraction_bits"] == 23 and told["reproduced"] is True
    assert [check["differ"] for check in told["checks"]] == [0, 0, 0]
    unit = load_chip(out).matrix_unit("float16", "float16")
    assert unit.order.order == "fused"
    again = CliRunner().invoke(cli, ["probe", "--chip", str(out), "1", "--k", "10", "--json"],
                               standalone_mode=False)  # fmt: skip
    assert json.loads(again.output)["tree"] == told["tree"]


def test_command_line_probes_a_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mysums.py").write_text(
        "def dot(a, b, c):\n"
        "    for k in range(a.shape[1] - 1, -1, -1):\n"
        "        c = c + a[:, k] * b[:, k]\n"
        "    return c\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "mysums", raising=False)
    arguments = ["probe", "--callable", "mysums:dot", "--takes-c", "--k", "4", "--cases", "256"]
    result = CliRunner().invoke(cli, arguments, standalone_mode=False)
    assert result.return_value == 0, result.output
    assert "tree: ((((C 3) 2) 1) 0)" in result.output
    assert "order: a chain, k descending" in result.output
    assert "rounded product, then add" in result.output
    two = CliRunner().invoke(cli, ["probe", "--torch", "float32", "--chip", "nvidia-v100", "1"])
    assert two.exit_code == 2 and "name one target" in two.output
