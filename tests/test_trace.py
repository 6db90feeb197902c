"""The trace: every counter by a hand count, sampling, the first infinity, the same bytes."""

from collections.abc import Callable
from math import inf, log10
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tapeout.formats import InputError
from tapeout.formats.jit import set_threads
from tapeout.simulator import (
    Chain,
    DotUnit,
    Exact,
    Fused,
    NonFiniteError,
    Sequence,
    SplitK,
    Tree,
    emulate,
    load_chip,
    load_recipe,
)
from tapeout.simulator.kernels.counting import exact_products
from tapeout.simulator.matrix.preparation import Prepared
from tapeout.simulator.tracing import COLUMNS, Conversion, Counts, Key, Multiplied, examine
from tapeout.simulator.tracing.counts import count_rounding
from tapeout.simulator.tracing.products import turns
from tapeout.simulator.units import arithmetic_format

IEEE, FP32 = load_chip("ieee-float32"), load_recipe("fp32")
H100, FP8, BF16 = load_chip("nvidia-h100"), load_recipe("fp8"), load_recipe("bf16")
INT4_CHIP, B200 = load_chip("generic-int4"), load_chip("nvidia-b200")
E4M3, BFLOAT16, FLOAT32 = map(arithmetic_format, ("e4m3", "bfloat16", "float32"))
NAN = float("nan")


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def counted(x: Any, q: Any, **options: Any) -> dict[str, Any]:
    """The row of one conversion."""
    counts = Counts()
    counts.add_rounding(*count_rounding(Conversion(x, q, **options)))
    return counts.row(0, Key("", "matmul", "fprop", "weight", "e4m3"))


def test_every_counter_of_a_conversion_by_a_hand_count() -> None:
    x = np.array([[1.0, -3.0, 0.0, 1e-9, 500.0, -inf, NAN, 1e30]], np.float32)
    q = np.array([[1.0, -2.5, 0.0, 0.0, 448.0, -448.0, NAN, inf]], np.float32)
    row = counted(x, q, largest=448.0, lowest=-448.0)
    assert (row["underflow"], row["saturated"], row["overflow"], row["nan"]) == (1, 2, 1, 0)
    assert row["nonfinite"] == 2
    tiny = float(np.float32(1e-9)) ** 2
    assert row["signal"] == 1 + 9 + tiny + 500.0**2
    assert row["noise"] == 0.25 + tiny + 52.0**2
    assert (row["smallest"], row["largest"]) == (float(np.float32(1e-9)), float(np.float32(1e30)))
    assert row["exponents"] == [-30, 0, 1, 8, 99] and row["exponent_counts"] == [1] * 5


def test_a_value_that_becomes_nan_is_counted_as_made() -> None:
    row = counted(np.array([[1.0, inf]], np.float32), np.array([[NAN, NAN]], np.float32))
    assert (row["nan"], row["nonfinite"], row["overflow"]) == (2, 1, 0)


def test_energies_are_in_units_before_scaling_block_by_block() -> None:
    x = np.array([[1.0, 3.0, 0.5, 5.0, 7.0]], np.float32)
    m = np.array([[2.0, 8.0, 0.5]], np.float32)  # of 2, 2 and 1 neighbours
    q = np.array([[2.0, 5.0, 4.0, 32.0, 4.0]], np.float32)
    for factors, divides in ((m, False), (1 / m, True)):
        row = counted(x, q, factors=factors, tiles=(1, 1, 2), divides=divides, largest=4.0,
                      lowest=-4.0)  # fmt: skip
        assert row["signal"] == 1 + 9 + 0.25 + 25 + 49
        assert row["noise"] == 0.5**2 + 1.0 + 1.0
        assert row["saturated"] == 2  # 3 * 2 and 5 * 8 are beyond 4; 0.5 * 8 is not


def test_tiles_of_rows_share_a_factor() -> None:
    x = np.arange(1.0, 13.0, dtype=np.float32).reshape(6, 2)
    m = np.array([[1.0], [2.0], [4.0], [8.0]], np.float32)  # rows 0-1, 2 | 3-4, 5
    q = x * np.array([[1.0], [1.0], [2.0], [4.0], [4.0], [8.0]], np.float32)
    row = counted(x, q, factors=m, tiles=(3, 2, 2))
    assert row["noise"] == 0.0 and row["signal"] == float((x.astype(np.float64) ** 2).sum())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exponents_are_floors_of_logarithms_to_the_ends_of_the_bins(dtype: Any) -> None:
    x = np.array([[2.0**e * f for e in range(-149, 128) for f in (1.0, 1.5) if e > -149 or f == 1]])
    row = counted(x.astype(dtype), x.astype(dtype))
    assert row["exponents"] == list(range(-149, 128))
    assert row["exponent_counts"] == [1] + [2] * 276
    if dtype is np.float64:
        ends = np.array([[1e-300, 1e300, 0.0]])
        assert counted(ends, ends)["exponents"] == [-150, 129]


def chain(accumulator: str = "bfloat16", **fields: Any) -> DotUnit:
    order = Chain(order="chain", accumulator=accumulator, **fields)
    return DotUnit(FLOAT32, FLOAT32, order.result, order)


def taken(elements: Any, factor: Any = None) -> Prepared:
    """An operand (1, R, K) as it is."""
    values = np.asarray(elements, np.float32)
    return Prepared(values, None, factor, (1, 1), Conversion(values[0], values[0]))


def multiplied(unit: DotUnit, a: Any, b: Any, **fields: Any) -> dict[str, float]:
    """The sums of one examined product; its result is the unit's own unless given."""
    x, y = np.asarray(a, np.float32)[None], np.asarray(b, np.float32).T[None]

    def sums(left: Any, right: Any, start: Any) -> Any:
        return unit.matmul(left.elements, right.elements.swapaxes(1, 2), start, check=False)

    given = {"x": taken(x), "y": taken(y), "bias": None, "start": None}
    result = sums(given["x"], given["y"], None).astype(np.float32)
    counts = Counts()
    examine(
        Multiplied(unit, 0, x, y, **({**given, "result": result, "sums": sums} | fields)), counts
    )
    return counts.sums


def test_ones_are_swamped_by_a_hundred_million_in_a_bfloat16_chain() -> None:
    """1e8 + 1 = 1e8 in 8 significand bits: all additions but the first are lost."""
    sums = multiplied(chain(), [[1e8] + [1.0] * 15], np.ones((16, 1)))
    assert (sums["additions"], sums["swamped"]) == (16, 15)
    exact = 1e8 + 15
    stored = float(np.float32(torch.tensor(1e8).bfloat16().float()))
    assert (sums["compared"], sums["signal"]) == (1, exact * exact)
    assert sums["noise"] == (stored - exact) ** 2 == sums["sum_noise"]


def test_zero_products_are_not_additions_and_all_survive_in_an_exact_sum() -> None:
    a, b = [[1e8, 0.0, 1.0, 2.0]], [[1.0], [1.0], [0.0], [1.0]]
    assert multiplied(chain(), a, b)["additions"] == 2
    assert multiplied(chain(), a, b)["swamped"] == 1
    assert (
        multiplied(chain("float32"), [[1.0, 2.0**-24, 2.0**-23]], np.ones((3, 1)))["swamped"] == 1
    )
    exact = Exact(order="exact", accumulator="float32")
    unit = DotUnit(BFLOAT16, BFLOAT16, FLOAT32, exact)
    assert multiplied(unit, [[1.0, 2.0**-20]], np.ones((2, 1)))["swamped"] == 0


def test_what_came_before_counts_not_what_comes_after() -> None:
    """Ones before the 1e8 reach the sum; in descending k they do not."""
    a, b = [[1.0, 1.0, 1e8]], np.ones((3, 1))
    assert multiplied(chain(), a, b)["swamped"] == 0
    order = Chain(order="chain", accumulator="bfloat16")
    last = DotUnit(FLOAT32, FLOAT32, order.result, order, k_order=Sequence(name="descending"))
    assert multiplied(last, a, b)["swamped"] == 2


def test_a_fused_block_drowns_what_is_below_its_fraction_bits() -> None:
    order = Fused(
        order="fused", accumulator="float32", block=4, fraction_bits=10, min_exponent=-126
    )
    unit = DotUnit(E4M3, E4M3, FLOAT32, order)
    a = [[1.0, 2.0**-9, 0.0, 0.0, 2.0**-9, 0.0, 0.0, 0.0]]
    b = [[256.0], [1.0], [0.0], [0.0], [1.0], [0.0], [0.0], [0.0]]
    sums = multiplied(unit, a, b)
    assert (sums["additions"], sums["swamped"]) == (3, 2)


def test_the_bias_in_the_accumulator_swamps_too() -> None:
    start = np.full((1, 1, 1), 1e8)
    sums = multiplied(chain(), [[1.0]], [[1.0]], start=start, result=start.astype(np.float32),
                      bias=start[0])  # fmt: skip
    assert (sums["additions"], sums["swamped"]) == (1, 1)
    assert sums["signal"] == (1e8 + 1) ** 2 and sums["noise"] == 1.0


def test_turns_follow_order_splits_and_promotion() -> None:
    assert list(turns(chain(), 4)) == [0, 1, 2, 3]
    tree = Tree(order="tree", accumulator="float32", group=2)
    unit = DotUnit(BFLOAT16, BFLOAT16, FLOAT32, tree)
    assert list(turns(unit, 5)) == [0, 0, 1, 1, 2]
    turned = DotUnit(BFLOAT16, BFLOAT16, FLOAT32, tree, k_order=(2, 0, 1))
    assert list(turns(turned, 5)) == [0, 1, 0, 2, 2]  # steps are k = 2, 0, 1, (5), 3, 4
    outer = Chain(order="chain", accumulator="float32")
    promoted = DotUnit(BFLOAT16, BFLOAT16, FLOAT32, tree, 3, outer)
    assert list(turns(promoted, 5)) == [0, 0, 1, 2, 2]
    split = SplitK.model_validate(
        {"parts": 2, "pattern": "interleaved", "chunk": 1, "combine": "ascending", "c": "first",
         "accumulator": "float32"}
    )  # fmt: skip
    assert list(turns(chain(), 5, 2)) == [0, 1, 2, 3, 5]  # given two, two and one at a time
    halves = DotUnit(BFLOAT16, BFLOAT16, FLOAT32, tree, split=split)
    assert list(turns(halves, 4)) == [0, 1, 0, 1]


def test_noise_of_the_whole_and_of_the_accumulation_alone() -> None:
    a, b, unit = [[1.25, 3.0]], [[2.0], [1.0]], chain("float32")
    x, y = taken([[[1.0, 3.0]]]), taken([[[4.0, 2.0]]], np.array([[[0.5]]], np.float32))
    result = np.array([[[5.5]]], np.float32)
    sums = multiplied(unit, a, b, x=x, y=y, result=result)
    assert (sums["signal"], sums["noise"]) == (5.5**2, 0.0)  # 1.25 2 + 3 = 5.5
    assert (sums["sum_signal"], sums["sum_noise"]) == (25.0, 0.25)  # (4 + 6) / 2 = 5


def test_infinities_that_a_product_made_are_told_from_those_that_came_in() -> None:
    a = np.array([[1e30, 1.0], [inf, 1.0], [NAN, 0.0]], np.float32)
    sums = multiplied(chain("float32"), a, [[1e30, 1.0], [1.0, 1.0]])
    assert (sums["overflow"], sums["nan"], sums["nonfinite"]) == (1, 0, 5)
    assert sums["compared"] == 1


def test_saturation_underflow_and_overflow_of_a_layer_by_a_hand_count() -> None:
    layer = nn.Linear(4, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1000.0, -500.0, 2.0**-11, 3.0]]))
    plain = {"scaling": "none"}
    recipe = load_recipe("fp8", {"weight": plain, "activation": plain | {"overflow": "infinity"}})
    with emulate(H100, recipe, model=layer) as trace:
        layer(torch.tensor([[1.0, 2.0, 1000.0, 0.0]]))
    rows = {row["operand"]: row for row in trace.take()}
    weight, activation, output = rows["weight"], rows["activation"], rows["output"]
    assert (weight["saturated"], weight["underflow"], weight["values"]) == (2, 1, 4)
    assert (weight["smallest"], weight["largest"]) == (2.0**-11, 1000.0)
    assert (weight["exponents"], weight["exponent_counts"]) == ([-11, 1, 8, 9], [1, 1, 1, 1])
    assert activation["overflow"] + activation["nan"] == 1  # e4m3fn has no infinity: NaN
    assert output["overflow"] + output["nan"] == 1 and output["macs"] == 4


def test_what_a_step_did_to_a_parameter() -> None:
    layer = nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 2.0**-3]]))
    opt = torch.optim.SGD(layer.parameters(), lr=2.0**-24)
    with emulate(IEEE, FP32, model=layer) as trace:
        layer(torch.ones(1, 2)).sum().backward()
        opt.step()
    rows = {row["operand"]: row for row in trace.take() if row["op"] == "step"}
    assert (rows["update"]["values"], rows["update"]["stalled"]) == (2, 0)
    assert rows["weight"]["exponents"] == [-4, -1]
    assert (rows["gradient"]["exponents"], rows["gradient"]["exponent_counts"]) == ([0], [2])
    assert {row["module"] for row in rows.values()} == {"weight"}
    opt.param_groups[0]["lr"] = 2.0**-26  # below half an ulp of the larger weight
    with emulate(IEEE, FP32, model=layer) as trace:
        opt.step()
    (row,) = (row for row in trace.take() if row["operand"] == "update")
    assert (row["values"], row["stalled"]) == (2, 1)


class Block(nn.Module):
    """A layer norm, an attention with a causal mask, and a perceptron."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.norm, self.qkv = nn.LayerNorm(width), nn.Linear(width, 3 * width)
        self.out, self.up, self.down = (nn.Linear(*s) for s in
                                        ((width, width), (width, 32), (32, width)))  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
        mask = torch.log(torch.tril(torch.ones(x.shape[1], x.shape[1])))
        hidden = torch.full_like(mask, -inf).triu(1)
        scores = (q @ k.mT + mask).masked_fill(hidden < 0, -inf) + hidden
        x = x + self.out(torch.softmax(scores, -1) @ v)
        out: torch.Tensor = x + self.down(nn.functional.gelu(self.up(x)))
        return out


def train(steps: int, chip: Any = H100, recipe: Any = FP8, **options: Any) -> Any:
    """The trace and the weights after training a block."""
    torch.manual_seed(0)
    block, x = Block(), random(2, 6, 16)
    opt = torch.optim.AdamW(block.parameters(), lr=1e-2)
    with emulate(chip, recipe, model=block, seed=3, **options) as trace:
        for _ in range(steps):
            opt.zero_grad()
            block(x).square().mean().backward()
            opt.step()
    return trace, block


RECIPES = [(H100, "fp8"), (INT4_CHIP, "int4"), (B200, "nvfp4"), (H100, "deepseek-v3")]


@pytest.mark.parametrize(("chip", "recipe"), RECIPES)
def test_rows_of_sampled_steps_are_those_of_all_steps(chip: Any, recipe: Any) -> None:
    """Also of scaled, rotated, stochastic and promoted products."""
    every, full = train(4, chip, load_recipe(recipe))
    some, thin = train(4, chip, load_recipe(recipe), sample_every=3)
    rows, fewer = every.take(), some.take()
    assert {row["step"] for row in rows} == {0, 1, 2, 3}
    assert {row["step"] for row in fewer} == {0, 3}
    assert fewer == [row for row in rows if row["step"] in (0, 3)]
    assert every.coverage() == some.coverage() and every.state_dict() == some.state_dict()
    for a, b in zip(full.parameters(), thin.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_same_rows_on_one_thread_and_two() -> None:
    found = []
    for threads in (1, 2):
        set_threads(threads)
        torch.set_num_threads(threads)
        found.append(repr(train(2)[0].take()))
    assert found[0] == found[1]


def test_a_resumed_run_counts_the_steps_that_it_would_have() -> None:
    torch.manual_seed(0)
    whole = train(4, sample_every=2)[0].take()
    torch.manual_seed(0)
    block, x = Block(), random(2, 6, 16)
    opt = torch.optim.AdamW(block.parameters(), lr=1e-2)
    rows: list[dict[str, Any]] = []
    state: dict[str, Any] | None = None
    for steps in (1, 3):
        with emulate(H100, FP8, model=block, seed=3, sample_every=2, state=state) as trace:
            for _ in range(steps):
                opt.zero_grad()
                block(x).square().mean().backward()
                opt.step()
        rows, state = rows + trace.take(), trace.state_dict()
    assert rows == whole


def test_rows_have_the_columns_of_the_table_and_take_empties() -> None:
    trace, _ = train(1)
    rows = trace.take()
    assert all(set(row) == {column.name for column in COLUMNS} for row in rows)
    assert trace.take() == []
    by = {(row["module"], row["gemm"], row["operand"]): row for row in rows}
    output = by["up", "fprop", "output"]
    assert output["calls"] == 1 and output["macs"] == 12 * 16 * 32 and output["values"] == 12 * 32
    for role in ("activation", "weight"):
        row = by["up", "fprop", role]
        assert 20 < 10 * log10(row["signal"] / row["noise"]) < 40  # four significand bits
    assert 20 < 10 * log10(output["signal"] / output["noise"]) < 40
    assert output["sum_noise"] < output["noise"]
    assert {row["gemm"] for row in rows} == {"fprop", "dgrad", "wgrad", "optimizer"}


def test_sample_every_is_a_count() -> None:
    for wrong in (0, -1, 1.5):
        with (
            pytest.raises(InputError, match=r"sample_every = .* is not a count from 1 on"),
            emulate(IEEE, FP32, sample_every=wrong),  # type: ignore[arg-type]
        ):
            pass


def stopped(run: Callable[[], Any], model: Any = None, recipe: Any = BF16) -> NonFiniteError:
    with (
        pytest.raises(NonFiniteError) as caught,
        emulate(H100, recipe, model=model, stop_at_nonfinite=True),
    ):
        run()
    return caught.value


def test_masks_do_not_stop_a_run_and_looking_changes_nothing() -> None:
    watched, plain = (train(2, stop_at_nonfinite=stop)[1] for stop in (True, False))
    for a, b in zip(watched.parameters(), plain.parameters(), strict=True):
        assert torch.equal(a, b)
    with emulate(H100, BF16, stop_at_nonfinite=True):
        x = torch.tensor([inf, 1.0, -1.0])  # what comes in infinite is nobody's doing
        torch.where(x > 0, x, -inf).exp().sum().sqrt()
        torch.nn.functional.softplus(torch.tensor([1000.0]))  # drops an exp(1000)


def test_a_product_that_overflows_is_named_with_its_operands() -> None:
    layer = nn.Linear(2, 3, bias=False)
    model = nn.Sequential(nn.Identity(), layer)
    with torch.no_grad():
        layer.weight.fill_(2.0)
    error = stopped(lambda: model(torch.tensor([[3e38, 1.0], [1.0, 1.0]])), model)
    assert (error.module, error.op, error.gemm, error.part) == ("1", "mm", "fprop", "forward")
    assert error.ranges["weight"] == (2.0, 2.0)
    assert error.ranges["activation"] == (1.0, float(np.float32(3e38)))
    assert "step 0, forward, 1: mm (fprop) made 3 infinite and 0 NaN of 6 values" in str(error)


def test_a_function_a_division_and_an_invalid_operation_are_named() -> None:
    assert stopped(lambda: torch.tensor([100.0]).exp()).op == "exp"
    assert stopped(lambda: torch.ones(2) / torch.zeros(2)).op == "div"
    assert stopped(lambda: torch.tensor([inf]) - inf).op == "sub"
    with_mask = torch.tensor([-inf, 0.0])
    assert stopped(lambda: (with_mask * torch.tensor([0.0, 1.0])).sum()).op == "mul"


class Root(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sqrt()


def test_backward_and_the_optimizer_step_are_told() -> None:
    layer = nn.Linear(2, 2, bias=False)
    wide = nn.Linear(1, 2, bias=False)

    def backward() -> None:
        out = wide(torch.full((2, 1), 1e20, requires_grad=True))
        torch.autograd.backward(out, torch.full((2, 2), 1e25))

    error = stopped(backward, wide)
    assert (error.part, error.gemm, error.op) == ("backward", "wgrad", "mm")
    assert error.ranges["gradient"][1] == float(np.float32(1e25))
    still = nn.Linear(1, 1)
    roots = nn.Sequential(still, Root())
    with torch.no_grad():
        still.weight.fill_(0.0)
        still.bias.fill_(0.0)
    error = stopped(lambda: roots(torch.ones(1, 1)).sum().backward(), roots)
    assert (error.part, error.module, error.op) == ("backward", "1", "div")
    opt = torch.optim.Adam(layer.parameters())
    layer.weight.grad = torch.full((2, 2), 1e30)
    error = stopped(opt.step, layer)
    assert (error.part, error.module) == ("optimizer step", "weight")
    assert "1e+30 to 1e+30" in str(error)


def test_without_stopping_infinities_are_counted() -> None:
    layer = nn.Linear(2, 3, bias=False)
    with torch.no_grad():
        layer.weight.fill_(2.0)
    with emulate(H100, BF16, model=layer) as trace:
        layer(torch.tensor([[3e38, 1.0], [1.0, 1.0]]))
    (row,) = (row for row in trace.take() if row["operand"] == "output")
    assert (row["overflow"], row["nan"], row["nonfinite"]) == (3, 0, 3)


def test_exact_products_add_in_ascending_order() -> None:
    a, b = random(2, 3, 50).double().numpy(), random(2, 50, 4, seed=1).double().numpy()
    want = np.zeros((2, 3, 4))
    for k in range(50):
        want += a[:, :, k, None] * b[:, None, k]
    assert np.array_equal(exact_products(a, b), want)
