"""The stages of each family of accumulation orders, and the datapath of a whole matrix unit."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import singledispatch

from ..formats import FloatFormat
from ..formats.format import ArithmeticFormat
from .datapath import Datapath, Entry, Stage, add_order, add_promotion, add_split
from .order import Chain, Exact, Fused, Integer, Scale, Tree, TwoStage
from .order.row import Rounded
from .units import MatrixUnit, arithmetic_format


@dataclass(frozen=True)
class Products:
    """The operands a drawing speaks of: the widest of each side, as the multipliers see them."""

    a: tuple[ArithmeticFormat, ...]
    b: tuple[ArithmeticFormat, ...]

    def describe(self) -> str:
        """Significand widths of factors and product."""
        widths = [max(_significand(f) for f in side) for side in (self.a, self.b)]
        return f"{widths[0]} x {widths[1]} bits of significand -> {sum(widths)}, exact"


def _significand(fmt: ArithmeticFormat) -> int:
    return fmt.precision if isinstance(fmt, FloatFormat) else fmt.bits


def draw_unit(unit: MatrixUnit) -> Datapath:
    """The datapath of a row of a chip: its order, and what surrounds it, from the inside out."""
    sides = [tuple(arithmetic_format(name) for name in names) for names in (unit.a, unit.b)]
    path = draw_order(unit.dot, Products(*sides))
    if unit.split_k is not None and unit.split_k.scope == "promotion":
        path = add_split(path, unit.split_k)
    if unit.promotion is not None:
        path = add_promotion(path, unit.promotion)
    if unit.split_k is not None and unit.split_k.scope == "k":
        path = add_split(path, unit.split_k)
    return add_order(path, unit.k_order) if unit.k_order else path


@singledispatch
def draw_order(order: object, products: Products) -> Datapath:
    """The stages of one accumulation order; C enters where an entry's `start` names it."""
    raise TypeError(f"no drawing for {type(order).__name__}")


@draw_order.register
def _chain(order: Chain, products: Products) -> Datapath:
    acc, lanes = order.accumulator, order.lanes
    before = ("subnormal a, b and c become ±0 first",) if order.flush else ()
    if order.fused:
        facts = ("c + a b, one product a step", products.describe(), *before)
        step = Stage("FUSED MULTIPLY-ADD", facts)
    else:
        facts = (f"p = a b, nearest_even to {acc}", "c + p, one product a step", *before)
        step = Stage("MULTIPLY, ROUND, ADD", facts)
    stages = [step, _rounding(order, *_flushed(order.flush))]
    if lanes == 1:
        entry = Entry(0, f"C, {acc}", 1, "for the next product")
        return _path(1, stages, [entry], acc)
    stages = [
        Stage(f"DEAL TO {lanes} LANES", (f"product k goes to lane k mod {lanes}",)),
        *stages,
        Stage("ADD THE LANES", ("lane 0 + lane 1 + ..., ascending, each sum rounded",)),
        Stage("ADD C", ("one rounded addition",)),
    ]
    lane = Entry(1, "+0 in each lane", 2, "for the next product of the lane")
    return _path(1, stages, [lane, Entry(4, f"C, {acc}")], acc)


@draw_order.register
def _fused(order: Fused, products: Products) -> Datapath:
    block, bits, acc = order.block, order.fraction_bits, order.accumulator
    scales = [] if order.scale is None else [_scales(order.scale)]
    exponent, terms = "e(a)+e(b) of each product", block
    stages = [Stage(f"MULTIPLY, {block} AT ONCE", (products.describe(),))]
    if order.scale is not None:
        stages.append(Stage("SCALE", ("each product x its scales of a and b, exact",)))
        exponent = "e(a)+e(b)+e(scales) of each product"
    if order.group is not None:
        terms = block // order.group
        summed = Stage(f"SUM {terms} GROUPS OF {order.group}", ("exact, before any alignment",))
        stages.insert(1, summed)
        stages[2] = Stage("SCALE", ("each group's sum x its scales, exact",))
        exponent = "e(scales) of each group"
    least = order.min_exponent
    stages += [
        Stage("ALIGN", (f"e = max of {exponent}, e(C), {least}", *_kept("term", bits, "e"))),
        Stage("SUM", (f"{terms + 1} terms, exact in {_width(terms + 1, bits)} bits; no order",)),
        _rounding(order),
    ]
    entries = [Entry(1 + (order.group is not None), text) for text in scales]
    last = len(stages) - 1
    entries.append(Entry(last - 2, f"C, {acc}", last, f"as C of the next {block}"))
    return _path(block, stages, entries, acc)


@draw_order.register
def _two_stage(order: TwoStage, products: Products) -> Datapath:
    block, bits, guard, acc = order.block, order.fraction_bits, order.guard_bits, order.accumulator
    apart = order.lanes == 2
    unit = "p even, q odd" if apart else "p"
    stages = [
        Stage(f"MULTIPLY, {block} AT ONCE", (products.describe(),)),
        Stage(
            "ALIGN THE PRODUCTS" + (", EVEN AND ODD k APART" if apart else ""),
            (f"{unit} = max of e(a)+e(b) of the products", *_kept("term", bits, "p")),
        ),
        Stage("SUM", (f"{block // order.lanes} terms, exact; no order",)),
    ]
    if apart:
        facts = (f"p = the larger; both sums rounded down to 2^(p-{bits})", "then added, exact")
        stages.append(Stage("JOIN EVEN AND ODD", facts))
    dropped = (f"C counts as 0 if e(C) < m - {order.drop_c}",) if order.drop_c is not None else ()
    meet = Stage(
        "MEET C",
        (
            "m = max of p, e(C)",
            f"the sum of products, rounded down to 2^(m-{guard})",
            f"C, rounded down to 2^(m-{bits})",
            *dropped,
            "added, exact",
        ),
    )
    stages.append(meet)
    if order.sum_bits is not None:
        cut = f"rounded down to {order.sum_bits} bits below its own exponent"
        stages.append(Stage("CUT THE SUM", (cut,)))
    stages.append(_rounding(order))
    entry = Entry(stages.index(meet), f"C, {acc}", len(stages) - 1, f"as C of the next {block}")
    return _path(block, stages, [entry], acc)


@draw_order.register
def _exact(order: Exact, products: Products) -> Datapath:
    block, acc = order.block, order.accumulator
    stages = [
        Stage(f"MULTIPLY, {block} AT ONCE" if block else "MULTIPLY", (products.describe(),)),
        Stage("SUM", (f"{block or 'all'} products and C, every bit kept; no order",)),
        _rounding(order),
    ]
    entry = (
        Entry(1, f"C, {acc}", 2, f"as C of the next {block}") if block else Entry(1, f"C, {acc}")
    )
    return _path(block or 0, stages, [entry], acc)


@draw_order.register
def _tree(order: Tree, products: Products) -> Datapath:
    group, leaf, acc = order.group, order.leaf, order.accumulator
    before, after = _flushed_inputs(order), _flushed(order.flush, order.tininess)
    beyond = ("overflow becomes an infinity",) if order.overflow == "infinity" else ()
    leaves = group // leaf
    if leaf == 1:
        facts = (f"each product rounded, {order.accumulate} to {acc}",)
        stages = [
            Stage(f"MULTIPLY, {group} AT ONCE", (products.describe(), *before, *facts, *after))
        ]
    else:
        facts = (f"{leaf} exact products, rounded once, {order.accumulate} to {acc}",)
        stages = [
            Stage(f"MULTIPLY, {group} AT ONCE", (products.describe(), *before)),
            Stage(f"SUM {leaves} x {leaf} PRODUCTS" if leaves > 1 else "SUM", (*facts, *after)),
        ]
    if leaves > 1:
        rounds = f"each + rounded, {order.accumulate} to {acc}"
        stages.append(Stage(f"ADD {leaves} IN PAIRS", (*_pairs(leaves), rounds, *after, *beyond)))
    stages.append(Stage("ADD TO C", (f"rounded, {order.accumulate} to {acc}", *after, *beyond)))
    last = len(stages) - 1
    return _path(group, stages, [Entry(last, f"C, {acc}", last, f"for the next {group}")], acc)


@draw_order.register
def _integer(order: Integer, products: Products) -> Datapath:
    acc, fmt = order.accumulator, order.result
    blocks = order.block if order.overflow == "saturate" else None
    end = (
        f"modulo 2^{fmt.bits}, two's complement"
        if order.overflow == "wrap"
        else f"to {int(fmt.lowest)} .. {int(fmt.largest)}"
    )
    stages = [Stage("MULTIPLY", (products.describe().replace(" of significand", ""),))]
    if order.partial is not None:
        facts = (f"{order.group} products a sum, saturated to {order.partial}",)
        stages.append(Stage("SUM GROUPS", facts))
    stages += [Stage("SUM", ("exact; no order",)), Stage(order.overflow.upper(), (end,))]
    last = len(stages) - 1
    entry = Entry(last - 1, f"C, {acc}")
    if blocks:
        entry = Entry(last - 1, f"C, {acc}", last, f"for the next {blocks} products")
    return _path(blocks or 0, stages, [entry], acc)


def _kept(what: str, bits: int, exponent: str) -> tuple[str, ...]:
    """The register of an aligned term, drawn: sign, two integer bits, F fraction bits, the cut."""
    return (
        f"{what} = ± i i . f f f ··· f f | cut toward zero",
        f"       2^({exponent}+1)   F = {bits} bits   2^({exponent}-{bits})",
    )


def _width(terms: int, fraction_bits: int) -> int:
    """Bits of a sum of aligned terms: two before the point of each, the carries, and the sign."""
    return fraction_bits + 2 + (terms - 1).bit_length() + 1


def _scales(scale: Scale) -> str:
    """What enters beside the products of block-scaled operands."""
    unsigned = "" if not scale.fmt.signed else ", sign ignored"
    return f"scales of a and of b, {scale.format}{unsigned}, one per {scale.block} along k"


def _flushed(flush: bool, tininess: str = "after") -> tuple[str, ...]:
    return (f"what is subnormal {tininess} rounding becomes ±0",) if flush else ()


def _flushed_inputs(order: Tree) -> tuple[str, ...]:
    zero = "+0" if order.flushed_inputs == "positive" else "±0"
    return (f"subnormal a, b and c become {zero} first",) if order.flush else ()


def _pairs(leaves: int) -> tuple[str, ...]:
    """The pairwise tree over s0, s1, ... as brackets, where it is short enough to read."""
    if leaves > 8:
        return (f"neighbours first, {leaves.bit_length() - 1} levels",)
    terms = [f"s{n}" for n in range(leaves)]
    while len(terms) > 1:
        terms = [f"({x} + {y})" for x, y in zip(terms[::2], terms[1::2], strict=True)]
    return (terms[0].removeprefix("(").removesuffix(")"),)


def _rounding(order: Rounded, *more: str) -> Stage:
    """The box that rounds a sum into the accumulator."""
    fmt = order.result
    width = f"{fmt.precision} significand bits, {fmt.exponent_bits} of exponent"
    return Stage("ROUND", (f"{order.accumulate} to {fmt.name}", width, *more))


def _path(many: int, stages: Iterable[Stage], entries: Iterable[Entry], result: str) -> Datapath:
    words = {0: "all of k", 1: "k = 0, 1, 2, ..."}.get(many, f"{many} along k")
    return Datapath((f"a, {words}", f"b, {words}"), tuple(stages), tuple(entries), f"D, {result}")
