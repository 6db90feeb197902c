"""The parts of a chip's arithmetic that can be put back to float32, one by one."""

from collections.abc import Iterable
from typing import Literal, NamedTuple

from ...simulator import Recipe

#: The operand roles of each kind of matrix product.
ROLES_OF = {
    "fprop": ("activation", "weight"),
    "dgrad": ("gradient", "weight"),
    "wgrad": ("activation", "gradient"),
    "attention": ("attention",),
    "optimizer": ("optimizer",),
    "exempt": ("exempt",),
}
MEMORY = ("weight", "gradient", "activation", "optimizer")

Kind = Literal["operand", "sums", "result", "memory", "vector", "module"]


class Part(NamedTuple):
    """One part of the arithmetic.

    Attributes:
        kind: operand, the format, scaling and rounding of an operand of a product; sums, how a
            product is accumulated; result, the format its result is stored in; memory, what a
            role is stored in between; vector, the vector unit; module, all products of a module.
        of: the kind of product (fprop, ...), the role in memory, or the module's name.
        role: of an operand.
    """

    kind: Kind
    of: str = ""
    role: str = ""


def operands(gemms: Iterable[str], roles: Iterable[str] = ()) -> frozenset[Part]:
    """The operands of these products, of all roles or of some."""
    wanted = set(roles)
    return frozenset(
        Part("operand", gemm, role)
        for gemm in gemms
        for role in ROLES_OF[gemm]
        if not wanted or role in wanted
    )


def products(gemms: Iterable[str]) -> frozenset[Part]:
    """All that belongs to these products: operands, sums, results."""
    names = tuple(gemms)
    return operands(names) | {Part(kind, gemm) for gemm in names for kind in ("sums", "result")}


def gemms_of(recipe: Recipe) -> tuple[str, ...]:
    """The kinds of product that a recipe has."""
    rows = recipe.rows
    exempts = rows.exempt_modules or rows.exempt_first or rows.exempt_last
    return tuple(name for name in ROLES_OF if name != "exempt" or exempts)


def everything(recipe: Recipe) -> frozenset[Part]:
    """Every part but modules, whose products are among the rest."""
    memory = {Part("memory", role) for role in MEMORY}
    return products(gemms_of(recipe)) | memory | {Part("vector")}
