"""Matrix products as a chip and a recipe do them: prepare, multiply, rescale, store."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...formats import quantize
from ...formats.device.place import on_device
from ...formats.errors import InputError
from ...formats.format import IntegerFormat
from ..chip import Chip
from ..dot_unit import DotUnit
from ..kernels.promotion import add_scaled
from ..recipe import Recipe
from ..recipe_rows import Operand
from ..roles import Product, Roles
from ..tracing import Conversion, Key, Multiplied, Trace
from . import device
from .exemption import Exemption
from .history import Histories
from .paths import Path, find_path
from .preparation import Prepared, prepare

Stack = NDArray[np.float32]
LAYER_PRODUCTS = {
    "fprop": ("activation", "weight"),
    "dgrad": ("gradient", "weight"),
    "wgrad": ("activation", "gradient"),
}


def list_paths(chip: Chip, recipe: Recipe) -> dict[tuple[str, str, str], Path]:
    """The path of each kind of product and pair of operand roles, in both orders.

    Raises:
        InputError: the chip lacks a unit or a rounding that the recipe needs.
    """
    rows = recipe.rows
    exempt = rows.exempt_modules or rows.exempt_first or rows.exempt_last
    same = ["attention", "optimizer", *(["exempt"] if exempt else [])]
    pairs = [(gemm, *roles) for gemm, roles in LAYER_PRODUCTS.items()]
    pairs += [(role, role, role) for role in same]
    paths = {}
    for gemm, a, b in pairs:
        for x, y in ((a, b), (b, a)):
            paths[gemm, x, y] = find_path(chip, recipe, gemm, x, y)
    return paths


def list_assumptions(chip: Chip, recipe: Recipe) -> list[str]:
    """The assumed hardware values that a run of this recipe on this chip rests on, and what stands
    in for what the chip lacks.

    Raises:
        InputError: the chip lacks a unit or a rounding that the recipe needs.
    """
    paths = list_paths(chip, recipe)
    rows = [path.row for path in paths.values()]
    told = chip.assumptions([u for i, u in enumerate(rows) if u not in rows[:i]])
    told += [path.sentence for path in paths.values() if path.sentence]
    told += [_software(chip, path) for path in paths.values()]
    return list(dict.fromkeys(sentence for sentence in told if sentence))


def _software(chip: Chip, path: Path) -> str:
    """What software rounds because the chip's conversion unit does not."""
    row, rounding = path.operands[0], path.roundings[0]
    if row.format == "float32" or row.rounding in chip.conversion_unit.roundings:
        return ""
    return f"{chip.name}'s conversion unit has no {row.rounding}: {rounding} in software"


class MatrixWork:
    """The matrix units of a chip under a recipe; every product goes through `run`."""

    def __init__(self, chip: Chip, recipe: Recipe, roles: Roles, trace: Trace) -> None:
        self.chip, self.recipe, self.roles, self.trace = chip, recipe, roles, trace
        self.paths = list_paths(chip, recipe)
        self.exempt = Exemption(recipe, roles.phase.model)
        self.histories: Histories | None = None
        if any(row.scales == "delayed" for path in self.paths.values() for row in path.operands):
            self.histories = Histories()
            trace.keep("scales", self.histories)
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
        if self.histories is not None:
            self.histories.look()
        if self.exempt.any and product.a != "optimizer" and product.module in self.exempt:
            product = product._replace(a="exempt", b="exempt")
        self.trace.note_product(product)
        gemm = product.a if product.a in ("attention", "exempt") else product.gemm
        path = self._path(gemm, product)
        if on_device(a):
            return self._run_on_device(product, gemm, path, a, b, bias)
        x = self._operand(a, product, path, 0)
        y = self._operand(b.mT, product, path, 1)
        factor = _factor(x.factor, y.factor)
        inside = None
        if bias is not None and factor is None and path.kind in ("plain", "dequantised"):
            inside = self._accumulator_bias(bias, path.unit, (*a.shape[:-1], b.shape[-1]))
        position = self.trace.position
        sums = self._sums(path, x, y, inside)
        if factor is not None:
            sums *= factor
        if bias is not None and inside is None:
            sums += bias.detach().numpy()
        stored = self._stored(sums, gemm)
        self._cover(product, path)
        self.trace.macs += stored.size * a.shape[2]
        if self.trace.sampling:

            def again(left: Any, right: Any, start: Any) -> Stack:
                with self.trace.replaying(position):
                    return self._sums(path, left, right, start)

            key = Key(product.module, "matmul", product.gemm, "output", path.unit.accumulator.name)
            self.trace.count_product(
                key,
                Multiplied(path.unit, path.every, _array(a), _array(b.mT), x, y,
                           None if bias is None else _array(bias), inside, stored, again),
            )  # fmt: skip
        return torch.from_numpy(stored)

    def _run_on_device(
        self, product: Product, gemm: str, path: Path, a: torch.Tensor, b: torch.Tensor,
        bias: torch.Tensor | None,
    ) -> torch.Tensor:  # fmt: skip
        """As `run`, by the kernels of a CUDA device; the trace takes copies on the host."""
        x = self._device_operand(a, product, path, 0)
        y = self._device_operand(b.mT, product, path, 1)
        factor = device.product_factor(x.factor, y.factor)
        inside = None
        if bias is not None and factor is None and path.kind in ("plain", "dequantised"):
            shape = (*a.shape[:-1], b.shape[-1])
            inside = device.accumulator_bias(self, bias, path.unit, shape)
        position = self.trace.position
        sums = device.multiply(self, path, x, y, inside)
        if factor is not None:
            sums = sums * factor
        if bias is not None and inside is None:
            sums = sums + bias.detach().to(sums.dtype)
        stored = device.stored(sums, getattr(self.recipe.rows.output, gemm))
        self.trace.macs += stored.numel() * a.shape[2]
        self._cover(product, path)
        if self.trace.sampling:
            self._count_from_device(product, path, (a, b, bias), (x, y), inside, stored, position)
        return stored

    def _count_from_device(
        self, product: Product, path: Path, given: Any, prepared: Any, inside: Any,
        stored: torch.Tensor, position: Any,
    ) -> None:  # fmt: skip
        """Count a product from copies; what the unit would sum otherwise is asked of the host."""
        a, b = (t.detach().cpu() for t in given[:2])
        bias = None if given[2] is None else given[2].detach().cpu()
        x, y = (p.on_host() for p in prepared)

        def again(left: Any, right: Any, start: Any) -> Stack:
            with self.trace.replaying(position):
                return self._sums(path, left, right, start)

        key = Key(product.module, "matmul", product.gemm, "output", path.unit.accumulator.name)
        self.trace.count_product(
            key,
            Multiplied(path.unit, path.every, _array(a), _array(b.mT), x, y,
                       None if bias is None else _array(bias),
                       None if inside is None else inside.cpu().numpy(),
                       stored.cpu().numpy(), again),
        )  # fmt: skip

    def _device_operand(
        self, x: torch.Tensor, product: Product, path: Path, side: int
    ) -> device.DevicePrepared:
        """As `_operand`, on a device."""
        row, rounding = path.operands[side], path.roundings[side]
        values = device.values_of(x, product.module, row.format)
        if row.format in ("float32", "float64") and row.scales == "none" and row.hadamard.size == 1:
            done = device.DevicePrepared(
                values, device.Scaled(None, (1, 1, 1), False, None, None), values, row
            )
            return self._counted(done, product, row.format, side)
        stream = self.trace.next_stream() if row.rounding == "stochastic" else 0
        name, given = self._named(product, side, row)
        done = device.prepare(
            values, row, rounding, seed=self.trace.seed, stream=stream, given=given
        )
        if self.histories is not None and row.scales == "delayed":
            self.histories.note(name, done.scaled.amax)
        return self._counted(done, product, row.format, side)

    def _counted(
        self, done: device.DevicePrepared, product: Product, fmt: str, side: int
    ) -> device.DevicePrepared:
        if self.trace.sampling:
            conversion = done.on_host().conversion
            self.trace.count_rounding(self._key(product, fmt, side), conversion)
        return done

    def _named(self, product: Product, side: int, row: Operand) -> tuple[str, Any]:
        """The name of an operand's history, and its scale where earlier passes give it."""
        module = self.exempt.owners.get(product.module, product.module)
        name = f"{module}|{product.names[side]}|{row.format}"
        if self.histories is not None and row.scales == "delayed":
            return name, self.histories.scale(name, row)
        return name, None

    def _cover(self, product: Product, path: Path) -> None:
        """Note by which unit, and what was exempt or stood in for something."""
        formats = " x ".join(fmt.name for fmt in (path.unit.a, path.unit.b))
        self.trace.cover("matrix_unit", f"{path.unit.name}: {formats}")
        if product.a == "exempt":
            what = f"{product.module or 'outside of the modules'}, {product.gemm}"
            self.trace.cover("exempt", f"{what} ({path.operands[0].format})")
        for sentence in (path.sentence, _software(self.chip, path)):
            if sentence:
                self.trace.cover("substituted", sentence)

    def _path(self, gemm: str, product: Product) -> Path:
        """The path found at the start; of other pairs of roles, when they first occur."""
        key = gemm, product.a, product.b
        if key not in self.paths:
            self.paths[key] = find_path(self.chip, self.recipe, *key)
        return self.paths[key]

    def _sums(self, path: Path, x: Prepared, y: Prepared, start: Any) -> Stack:
        """(B, M, N) of (B, M, K) and (B, N, K) by the unit of the path, in float32."""
        if path.kind == "parts":
            return self._sums_of_parts(path, x, y)
        scales: dict[str, Any] = {}
        left, right = x.elements, y.elements
        if path.kind == "scaled" and path.unit.scale is not None:
            block = path.unit.scale.block
            scales = {"a_scale": x.scales_of(block), "b_scale": y.scales_of(block).swapaxes(1, 2)}
        elif path.kind == "dequantised":
            left, right = (
                _restored(v, f) for v, f in zip((x, y), (path.unit.a, path.unit.b), strict=True)
            )
        return self._matmul(path.unit, left, right, start, **scales)

    def _sums_of_parts(self, path: Path, x: Prepared, y: Prepared) -> Stack:
        """c <- fma(sum of a part, fl(s_a s_b), c), part by part in ascending k."""
        (batch, rows, depth), columns = x.elements.shape, y.elements.shape[1]
        total = np.zeros((batch, rows, columns), np.float32)
        a, b = x.scales_of(path.every), y.scales_of(path.every)
        for at, first in enumerate(range(0, depth, path.every)):
            k = slice(first, first + path.every)
            part = self._matmul(path.unit, x.elements[..., k], y.elements[..., k], None)
            add_scaled(total, part, a[..., at].copy(), b[..., at].copy())
        return total

    def _matmul(self, unit: DotUnit, x: Stack, y: Stack, start: Any, **scales: Any) -> Stack:
        sums: Stack = unit.matmul(
            x, y.swapaxes(1, 2), start, **scales,
            seed=self.trace.seed, stream=self.trace.next_stream(), check=False,
        ).astype(x.dtype)  # fmt: skip
        return sums

    def _operand(self, x: torch.Tensor, product: Product, path: Path, side: int) -> Prepared:
        """One operand (B, R, K), a row meeting in one dot product, prepared and counted."""
        row, rounding = path.operands[side], path.roundings[side]
        values = _values(x, product.module, row.format)
        if row.format in ("float32", "float64") and row.scales == "none" and row.hadamard.size == 1:
            plain = Prepared(values, None, None, (1, 1), Conversion.unscaled(values, values))
            self.trace.count_rounding(self._key(product, row.format, side), plain.conversion)
            return plain
        stream = self.trace.next_stream() if row.rounding == "stochastic" else 0
        name, given = self._named(product, side, row)
        done = prepare(values, row, rounding, seed=self.trace.seed, stream=stream, given=given)
        if self.histories is not None and row.scales == "delayed":
            self.histories.note(name, done.amax)
        self.trace.count_rounding(self._key(product, row.format, side), done.conversion)
        return done

    def _key(self, product: Product, fmt: str, side: int) -> Key:
        return Key(product.module, "matmul", product.gemm, product.names[side], fmt)

    def _accumulator_bias(
        self, bias: torch.Tensor, unit: DotUnit, shape: Any
    ) -> NDArray[np.float32] | None:
        """The bias as C, where the chip adds it in the accumulator and nothing is rescaled."""
        if self.chip.vector_unit.bias == "epilogue" or isinstance(unit.accumulator, IntegerFormat):
            return None
        start = quantize(bias.detach().numpy(), unit.accumulator, overflow="infinity")
        return np.ascontiguousarray(np.broadcast_to(start, shape))

    def _stored(self, sums: Stack, gemm: str) -> Stack:
        fmt: str = getattr(self.recipe.rows.output, gemm)
        return sums if fmt in ("float32", "float64") else quantize(sums, fmt, overflow="infinity")


def _array(x: torch.Tensor) -> Stack:
    array: Stack = (x.detach() if x.dtype == torch.float64 else x.detach().float()).numpy()
    return array


def _values(x: torch.Tensor, module: str, fmt: str) -> Stack:
    """The operand as contiguous float32; as float64 where that is its format."""
    if fmt == "float64":
        return np.ascontiguousarray(x.detach().double().numpy())
    if x.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        raise InputError(
            f"{module or 'a product'}: {x.dtype} operands: matrix products are emulated for "
            "float32, bfloat16 and float16 tensors, and in a recipe of float64; convert with "
            ".float()"
        )
    return np.ascontiguousarray(x.detach().float().numpy())


def _restored(x: Prepared, fmt: Any) -> Stack:
    """The dequantised values on the unit's grid."""
    return quantize(x.dequantised(), fmt, overflow="infinity")


def _factor(x: Stack | None, y: Stack | None) -> Any:
    """fl(dx dy), (B, M, N) or broadcastable to it."""
    if x is None or y is None:
        return x if x is not None else None if y is None else y.swapaxes(1, 2)
    return x * y.swapaxes(1, 2)
