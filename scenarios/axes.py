"""The axes that a sweep knows by name: what each value changes in a column."""

from collections.abc import Callable, Mapping
from typing import Any

from ..formats.errors import InputError, choice
from ..simulator import Chip, Recipe
from ..simulator.matrix.work import LAYER_PRODUCTS, list_paths

Change = dict[str, Any]
#: The value that leaves chip and recipe as they are.
OWN = "own"
OPERANDS = ("weight", "activation", "gradient")
#: `order`: these, and nothing around them: no promotion, no split, k ascending.
ORDERS: dict[str, dict[str, Any]] = {
    "chain": {"order": "chain", "accumulator": "float32"},
    "tree": {"order": "tree", "group": 32, "accumulator": "float32"},
    "exact": {"order": "exact", "accumulator": "float32"},
}
#: Random bits of an accumulator that rounds stochastically.
ACCUMULATOR_BITS = 16


def _chip(value: Any, chip: Chip, recipe: Recipe) -> Change:
    return {"chip": value}


def _recipe(value: Any, chip: Chip, recipe: Recipe) -> Change:
    return {"recipe": value}


def _rounding(value: Any, chip: Chip, recipe: Recipe) -> Change:
    return {"override": {"rounding": value}}


def _format(value: Any, chip: Chip, recipe: Recipe) -> Change:
    return {"override": {role: {"format": value} for role in OPERANDS}}


def _random_bits(value: Any, chip: Chip, recipe: Recipe) -> Change:
    """Of the conversion unit; of the software that stands in where it has no random bits."""
    if "stochastic" in chip.conversion_unit.roundings:
        return {"chip_override": {"conversion_unit": {"random_bits": value}}}
    return {"override": {role: {"random_bits": value} for role in OPERANDS}}


def _gemms(**values: Any) -> Change:
    return {"override": {"gemm": {gemm: dict(values) for gemm in LAYER_PRODUCTS}}}


def _promotion(value: Any, chip: Chip, recipe: Recipe) -> Change:
    return _gemms(promote_every=value)


def _k_order(value: Any, chip: Chip, recipe: Recipe) -> Change:
    return _gemms(k_order=value)


def _split_k(value: Any, chip: Chip, recipe: Recipe) -> Change:
    return _gemms(split_k={"parts": value, "accumulator": "float32"})


def _order(value: Any, chip: Chip, recipe: Recipe) -> Change:
    dot = ORDERS[choice(str(value), ORDERS, "order", "or a table in [sweep.choices.order]")]
    around = {"promotion": False, "split_k": False, "k_order": False}
    return _layer_units(chip, recipe, {"dot": dot, **around})


def _accumulator_rounding(value: Any, chip: Chip, recipe: Recipe) -> Change:
    dot = {"rounding": value}
    if value == "stochastic":
        dot["random_bits"] = ACCUMULATOR_BITS
    return _layer_units(chip, recipe, {"dot": dot})


def _layer_units(chip: Chip, recipe: Recipe, values: Mapping[str, Any]) -> Change:
    """The same change in every matrix unit that multiplies operands of layers."""
    used = [path.row for (gemm, _, _), path in list_paths(chip, recipe).items()
            if gemm in LAYER_PRODUCTS]  # fmt: skip
    numbers = [str(n) for n, row in enumerate(chip.matrix_units, start=1) if row in used]
    return {"chip_override": {"matrix_units": {number: dict(values) for number in numbers}}}


AXES: dict[str, Callable[[Any, Chip, Recipe], Change]] = {
    "chip": _chip,
    "recipe": _recipe,
    "format": _format,
    "rounding": _rounding,
    "random_bits": _random_bits,
    "promotion": _promotion,
    "k_order": _k_order,
    "split_k": _split_k,
    "order": _order,
    "accumulator_rounding": _accumulator_rounding,
}


def axis_change(axis: str, value: Any, chip: Chip, recipe: Recipe) -> Change:
    """What `value` on `axis` changes in a column of that chip and recipe.

    Raises:
        InputError: no such axis.
    """
    if axis not in AXES:
        raise InputError(
            f'axis "{axis}" is not one of {", ".join(AXES)}: name what its values mean in '
            f"[sweep.choices.{axis}]"
        )
    return AXES[axis](value, chip, recipe)
