"""What the columns of a trace mean: the one place that says so."""

from typing import Any, Literal, NamedTuple

Kind = Literal["text", "count", "energy", "magnitude", "list"]


class Column(NamedTuple):
    """A column of the rows of `Trace.take`.

    Attributes:
        kind: text; count, a whole number; energy, a sum of squares; magnitude, null if there is
            none; list, of whole numbers.
        of: what is counted: values, products, ...
        meaning: one line.
    """

    name: str
    kind: Kind
    of: str
    meaning: str


COLUMNS = (
    Column("step", "count", "optimizer steps", "those that had ended before"),
    Column("module", "text", "", "dotted name of the module, in forward and backward; of the"
           " parameter in op step"),
    Column("op", "text", "", "matmul; step: what an optimizer step did to a parameter; store: what"
           " was rounded on its way into the memory"),
    Column("gemm", "text", "", "fprop, dgrad, wgrad or optimizer; in op store, the role"),
    Column("operand", "text", "", "weight, activation, gradient or optimizer on the way into a"
           " product, output for its result; update, weight, gradient in op step"),
    Column("format", "text", "", "what values were rounded to; of an output, the accumulator"),
    Column("calls", "count", "products", "matrix products; skipped steps, of operand skipped"),
    Column("macs", "count", "multiply-adds", "of these products"),
    Column("values", "count", "values", "operands converted; results; weights with a gradient"),
    Column("underflow", "count", "values", "nonzero ones that became zero"),
    Column("saturated", "count", "values", "beyond the format's range that stayed finite"),
    Column("overflow", "count", "values", "that became infinite; of an output, though all that went"
           " into them was finite"),
    Column("nan", "count", "values", "that became NaN; of an output, though all that went into them"
           " was finite"),
    Column("nonfinite", "count", "values", "infinite or NaN: of an operand before rounding, of an"
           " output at the end"),
    Column("signal", "energy", "values", "squares of values before rounding; of an output, of the"
           " exact results of the operands before rounding, over `compared`"),
    Column("noise", "energy", "values", "squares of what rounding changed; of an output, of the"
           " differences to those exact results"),
    Column("compared", "count", "results", "held against float64 products, a sample of each"
           " product's rows and columns"),
    Column("sum_signal", "energy", "results", "squares of the exact results of the rounded"
           " operands, over `compared`"),
    Column("sum_noise", "energy", "results", "squares of the differences to those: what"
           " accumulation alone lost"),
    Column("additions", "count", "products", "nonzero products whose addition was looked at"),
    Column("swamped", "count", "products", "of these, without which the unit, stopped where they"
           " are added, returns the same bits"),
    Column("stalled", "count", "values", "weights with a gradient that a step left as they were"),
    Column("smallest", "magnitude", "values", "least nonzero magnitude, before rounding"),
    Column("largest", "magnitude", "values", "largest finite magnitude, before rounding"),
    Column("exponents", "list", "", "floor(log2 |x|) of nonzero finite values x before rounding,"
           " ascending, from -150 (and below) to 129 (and above)"),
    Column("exponent_counts", "list", "values", "how many have each of these exponents"),
)  # fmt: skip

COUNTED = tuple(c.name for c in COLUMNS if c.kind == "count" and c.name != "step")
ENERGIES = tuple(c.name for c in COLUMNS if c.kind == "energy")


def describe_columns() -> str:
    """The table as Markdown, for the documentation."""
    lines = ["| column | counts | meaning |", "|---|---|---|"]
    lines += [f"| `{c.name}` | {c.of or c.kind} | {c.meaning} |" for c in COLUMNS]
    return "\n".join(lines) + "\n"


def empty_row() -> dict[str, Any]:
    """A row that counted nothing, its keys left out."""
    row: dict[str, Any] = {name: 0 for name in COUNTED}
    row |= {name: 0.0 for name in ENERGIES}
    return row | {"smallest": None, "largest": None, "exponents": [], "exponent_counts": []}
