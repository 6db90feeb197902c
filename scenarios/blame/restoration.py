"""A chip and a recipe with some parts of the arithmetic put back to float32.

What takes a part's place is that of the library's `ieee-float32`: operands and results in float32,
sums c <- fma(a_k, b_k, c) with k ascending (of integers: exact, rounded once), its vector unit,
nothing stored narrower. With every part put back a run has the bits of that machine. A part that
is float32 or wider already stays as it is.
"""

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from ...simulator import Chip, Recipe, chip_from_table, load_chip, recipe_from_table
from ...simulator.matrix import Path, list_paths
from ...simulator.recipe_rows import Operand
from .part import ROLES_OF, Part, gemms_of
from .units import CHAIN, EVIDENCE, build_product

REFERENCE = "ieee-float32"
WIDE = ("float32", "float64")


@dataclass(frozen=True)
class Restored:
    """The pair with its parts put back, and notes on what else had to change."""

    chip: Chip
    recipe: Recipe
    notes: tuple[str, ...] = ()


@dataclass
class _Draft:
    """The tables under way."""

    chip: dict[str, Any]
    recipe: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def restore(chip: Chip, recipe: Recipe, parts: frozenset[Part]) -> Restored:
    """The pair with `parts` as the reference machine has them.

    Raises:
        InputError: the pair itself does not fit together.
    """
    draft = _Draft(deepcopy(chip.table), deepcopy(recipe.table))
    paths = list_paths(chip, recipe)
    for gemm in gemms_of(recipe):
        roles = ROLES_OF[gemm]
        path = paths[gemm, roles[0], roles[-1]]
        _restore_product(draft, recipe, gemm, path, parts)
        if Part("result", gemm) in parts and getattr(recipe.rows.output, gemm) not in WIDE:
            draft.recipe.setdefault("output", {})[gemm] = "float32"
    _restore_memory(draft, parts)
    if Part("vector") in parts and chip.vector_unit.format != "float64":
        draft.chip["vector_unit"] = deepcopy(load_chip(REFERENCE).table["vector_unit"])
    modules = sorted(part.of for part in parts if part.kind == "module")
    if modules:
        _exempt(draft, modules)
    return Restored(
        chip_from_table(draft.chip, chip.place),
        recipe_from_table(draft.recipe, recipe.place),
        tuple(draft.notes),
    )


def _restore_product(
    draft: _Draft, recipe: Recipe, gemm: str, path: Path, parts: frozenset[Part]
) -> None:
    """Operands and sums of one kind of product; nothing where neither changes."""
    roles = (ROLES_OF[gemm][0], ROLES_OF[gemm][-1])
    back = [
        Part("operand", gemm, role) in parts and not _is_wide(row)
        for role, row in zip(roles, path.operands, strict=True)
    ]
    sums = Part("sums", gemm) in parts and not _sums_wide(path, recipe, gemm)
    if not (any(back) or sums):
        return
    rows = [_float32(row) if moved else row for row, moved in zip(path.operands, back, strict=True)]
    if all(row.format in WIDE for row in rows):  # a rotation of both, and back again, in float32
        rows = [Operand(format=row.format) for row in rows]
    own = recipe.gemm(gemm)
    label = f"blame {gemm}"
    made = build_product(path, (rows[0], rows[1]), own.promote_every, sums, label)
    table: dict[str, Any] = dict(draft.recipe.get("gemm", {}).get(gemm, {}))
    table = {key: table[key] for key in ("k_order", "split_k") if key in table and not sums}
    for role, row in zip(roles, rows, strict=True):
        # Exempt products have no row of their own under `gemm`.
        at = draft.recipe if gemm == "exempt" else table
        at[role] = row.model_dump(mode="json")
    table |= {"instruction": label, "promote_every": made.promote_every}
    draft.recipe["gemm"] = draft.recipe.get("gemm", {}) | {gemm: table}
    draft.chip["matrix_units"] = [*draft.chip["matrix_units"], *made.rows]
    if made.note:
        draft.notes.append(f"{gemm}: {made.note}")


def _is_wide(row: Operand) -> bool:
    return row.format in WIDE and row.scales == "none" and row.hadamard.size == 1


def _float32(row: Operand) -> Operand:
    """float32 in place of the format; still rotated, as both operands of a product must be."""
    return Operand(format="float32", hadamard=row.hadamard)


def _sums_wide(path: Path, recipe: Recipe, gemm: str) -> bool:
    """Whether the sums are the reference's already, or float64."""
    own, row = recipe.gemm(gemm), path.row
    plain = not (own.promote_every or own.k_order or own.split_k)
    plain = plain and not (row.promotion or row.k_order or row.split_k)
    unit = path.unit.order
    if unit.order != "chain" or not plain:
        return False
    chain = unit.model_dump(exclude_defaults=True)
    return chain == CHAIN or unit.accumulator == "float64"


def _restore_memory(draft: _Draft, parts: frozenset[Part]) -> None:
    memory = dict(draft.recipe.get("memory", {}))
    for part in parts:
        if part.kind == "memory":
            memory.pop(part.of, None)
            if part.of == "weight":
                memory.pop("master", None)
    if memory != draft.recipe.get("memory", {}):
        draft.recipe["memory"] = memory


def _exempt(draft: _Draft, modules: list[str]) -> None:
    """All products of these modules, and of those inside of them, in float32."""
    patterns = [pattern for name in modules for pattern in ([name, f"{name}.*"] if name else [""])]
    recipe, label = draft.recipe, "blame exempt"
    recipe["exempt_modules"] = [*recipe.get("exempt_modules", []), *patterns]
    recipe["exempt"] = Operand(format="float32").model_dump(mode="json")
    recipe["output"] = recipe.get("output", {}) | {"exempt": "float32"}
    recipe["gemm"] = recipe.get("gemm", {}) | {"exempt": {"instruction": label}}
    unit: dict[str, Any] = {
        "instructions": [label],
        "a": ["float32"],
        "b": ["float32"],
        "output": "float32",
    }
    unit |= {"dot": CHAIN, "evidence": EVIDENCE}
    draft.chip["matrix_units"] = [*draft.chip["matrix_units"], unit]
