"""Matrix products as a chip and a recipe do them: scale, round, multiply, rescale, store."""

from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...formats import Stochastic, quantize
from ...formats.errors import InputError
from ...formats.format import IntegerFormat
from ...formats.lanes import make_plan
from ...formats.random import random_dtype
from ...formats.rounding import get_overflow, kernel_mode
from ..chip import Chip
from ..dot_unit import DotUnit
from ..kernels.operand import scale_and_round
from ..recipe import OPERANDS, Operand, Recipe
from ..roles import Product, Roles
from ..tracing import Key, Multiplied, Trace
from ..units import MatrixUnit

Stack = NDArray[np.float32]
LAYER_PRODUCTS = (("activation", "weight"), ("gradient", "weight"), ("activation", "gradient"))


def matrix_row(chip: Chip, recipe: Recipe, a: str, b: str) -> MatrixUnit:
    """The chip's matrix unit for two operand roles of a recipe.

    Raises:
        InputError: the chip multiplies no such formats.
    """
    layer = a in ("activation", "gradient", "weight")
    instruction = recipe.rows.instruction if layer else None
    return chip.matrix_row(
        recipe.operand(a).format, recipe.operand(b).format, instruction=instruction
    )


def list_assumptions(chip: Chip, recipe: Recipe) -> list[str]:
    """The assumed hardware values that a run of this recipe on this chip rests on.

    Raises:
        InputError: the chip lacks a matrix unit that the recipe needs.
    """
    rows = [matrix_row(chip, recipe, a, b) for a, b in _pairs(recipe)]
    return chip.assumptions([u for i, u in enumerate(rows) if u not in rows[:i]])


def _pairs(recipe: Recipe) -> list[tuple[str, str]]:
    same = ["attention", "optimizer", *(["exempt"] if recipe.rows.exempt_modules else [])]
    return [*LAYER_PRODUCTS, *((role, role) for role in same)]


class MatrixWork:
    """The matrix units of a chip under a recipe; every product goes through `multiply`."""

    def __init__(self, chip: Chip, recipe: Recipe, roles: Roles, trace: Trace) -> None:
        self.chip, self.recipe, self.roles, self.trace = chip, recipe, roles, trace
        self.roundings = {role: recipe.rounding(role, chip) for role in OPERANDS}
        self.exempt = tuple(recipe.rows.exempt_modules)
        self._units: dict[tuple[str, str], DotUnit] = {}
        for a, b in _pairs(recipe):
            self._unit(a, b)
        trace.assumed.update(list_assumptions(chip, recipe))

    def multiply(self, a: torch.Tensor, b: torch.Tensor, bias: torch.Tensor | None = None) -> Any:
        """`run` with the roles that the operands have where the run stands."""
        return self.run(self.roles.product(a, b), a, b, bias)

    def run(
        self, product: Product, a: torch.Tensor, b: torch.Tensor, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        """(B, M, K) @ (B, K, N) + bias (broadcast to the result), float32.

        Rounded: the operands into their formats, the sums by the matrix unit, the rescaling and
        the bias in float32 nearest-even, the result into the recipe's output format.
        """
        product = self._exempted(product)
        self.trace.note_product(product)
        unit = self._unit(product.a, product.b)
        x, x_factor = self._operand(a, product, 0)
        y, y_factor = self._operand(b.mT, product, 1)
        y = y.swapaxes(1, 2)
        inside = self._accumulator_bias(
            bias, unit, (*a.shape[:-1], b.shape[-1]), x_factor, y_factor
        )
        stream = self.trace.next_stream()
        sums = unit.matmul(x, y, inside, seed=self.trace.seed, stream=stream, check=False).astype(
            np.float32
        )
        if x_factor is not None or y_factor is not None:
            sums *= _factor(x_factor, y_factor)
        if bias is not None and inside is None:
            sums += bias.detach().numpy()
        stored = self._stored(sums, product)
        if self.trace.sampling:
            done = Multiplied(
                unit, _array(a), _array(b), x, y, x_factor,
                None if y_factor is None else y_factor.swapaxes(1, 2),
                None if bias is None else _array(bias), inside, stored, self.trace.seed, stream,
            )  # fmt: skip
            key = Key(product.module, "matmul", product.gemm, "output", unit.accumulator.name)
            self.trace.count_product(key, done)
        return torch.from_numpy(stored)

    def _exempted(self, product: Product) -> Product:
        if self.exempt and self._is_exempt(product.module):
            what = f"{product.module or 'outside of the modules'}, {product.gemm}"
            self.trace.cover("exempt", f"{what} ({self.recipe.operand('exempt').format})")
            return product._replace(a="exempt", b="exempt")
        return product

    def _is_exempt(self, module: str) -> bool:
        return any(fnmatchcase(module, pattern) for pattern in self.exempt)

    def _unit(self, a: str, b: str) -> DotUnit:
        unit = self._units.get((a, b))
        if unit is None:
            row = matrix_row(self.chip, self.recipe, a, b)
            left, right = (self.recipe.operand(role).format for role in (a, b))
            unit = row.unit(left, right, f"{self.chip.name}, {row.instruction}")
            self._units[a, b] = unit
        return unit

    def _operand(
        self, x: torch.Tensor, product: Product, side: int
    ) -> tuple[Stack, NDArray[np.float32] | None]:
        """One operand (B, R, K), a row meeting in one dot product, and its factors (B, R, 1)."""
        role = (product.a, product.b)[side]
        row = self.recipe.operand(role)
        if x.dtype not in (torch.float32, torch.bfloat16, torch.float16):
            raise InputError(
                f"{product.module or 'a product'}: {x.dtype} operands: matrix products are "
                "emulated for float32, bfloat16 and float16 tensors; convert with .float()"
            )
        if x.device.type != "cpu":
            raise InputError(f"tensor on {x.device}: emulation runs on the CPU; use model.cpu()")
        values = np.ascontiguousarray(x.detach().float().numpy())
        key = Key(product.module, "matmul", product.gemm, product.names[side], row.format)
        if row.format == "float32":
            self.trace.count_rounding(key, values, values)
            return values, None
        multiplier, factor = _scales(values, row)
        out = np.empty_like(values)
        mode, bits = kernel_mode(self.roundings[role])
        stream = self.trace.next_stream() if isinstance(self.roundings[role], Stochastic) else 0
        depth = values.shape[-1]
        scale_and_round(
            values.reshape(-1, depth), multiplier, out.reshape(-1, depth),
            np.empty(0, random_dtype(bits)),
            *make_plan(row.fmt, mode, bits, get_overflow(row.overflow), True),
            np.uint64(self.trace.seed % 2**64), np.uint64(stream),
        )  # fmt: skip
        self.trace.count_rounding(key, values, out, multiplier, fmt=row.fmt)
        if isinstance(row.fmt, IntegerFormat):
            out[np.isnan(out)] = 0.0  # the row's factor is NaN and makes the results NaN
        return out, factor

    def _accumulator_bias(
        self, bias: torch.Tensor | None, unit: DotUnit, shape: Any, *factors: Any
    ) -> NDArray[np.float32] | None:
        """The bias as C, where the chip adds it in the accumulator and nothing is rescaled."""
        if bias is None or self.chip.vector_unit.bias == "epilogue":
            return None
        if any(f is not None for f in factors) or isinstance(unit.accumulator, IntegerFormat):
            return None
        start = quantize(bias.detach().numpy(), unit.accumulator, overflow="infinity")
        return np.ascontiguousarray(np.broadcast_to(start, shape))

    def _stored(self, sums: Stack, product: Product) -> Stack:
        output = self.recipe.rows.output
        gemm = "attention" if product.a == "attention" else product.gemm
        fmt: str = getattr(output, gemm)
        if fmt == "float32" or product.a == "exempt":
            return sums
        return quantize(sums, fmt, overflow="infinity")


def _array(x: torch.Tensor) -> Stack:
    array: Stack = x.detach().float().numpy()
    return array


def _factor(x: NDArray[np.float32] | None, y: NDArray[np.float32] | None) -> Any:
    """fl(dx dy), (B, M, N) or broadcastable to it."""
    if x is None or y is None:
        return x if x is not None else None if y is None else y.swapaxes(1, 2)
    return x * y.swapaxes(1, 2)


def _scales(values: Stack, row: Operand) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Multipliers for each of the B R rows, and the factors (B, R, 1) that undo them."""
    batch, rows, _ = values.shape
    if row.scaling == "none":
        return np.ones(batch * rows, np.float32), None
    if row.scaling == "tensor":
        amax = np.full((batch, rows, 1), np.abs(values).max(initial=0.0), np.float32)
    else:
        amax = np.abs(values).max(axis=2, keepdims=True, initial=0.0)
    largest = np.float32(row.fmt.grid.largest)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        scale = largest / amax
        scale = np.where(amax == 0, np.float32(1), scale)
        scale = np.minimum(scale, np.finfo(np.float32).max)  # a subnormal amax overflows fl()
        factor = np.where(np.isfinite(amax), np.float32(1) / scale, np.float32(np.nan))
    return scale.reshape(-1), factor.astype(np.float32)
