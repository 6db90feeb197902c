"""The options of a parameter group of Shampoo: what is allowed, and the method they amount to."""

from typing import Any

from ...formats.errors import InputError, choice
from ..checks import betas_in_range, whole, within
from ..codebooks import PRECONDITIONER_BOOKS
from ..codec import RowCodec
from ..linalg import LINEAR_ALGEBRA
from .method import Method
from .statistics import STORAGES

CHOICES: dict[str, tuple[str, ...]] = {
    "base": ("adamw", "sgdm"),
    "storage": tuple(STORAGES),
    "codebook": tuple(PRECONDITIONER_BOOKS),
    "scales": ("joint", "separate"),
    "ridge": ("absolute", "relative"),
    "root_from": ("stored", "fresh"),
    "root": ("newton", "eigh"),
    "grafting": ("norm", "none"),
    "linalg": tuple(LINEAR_ALGEBRA),
}


def method_of(group: dict[str, Any]) -> Method:
    """The constants of a group's sides."""
    return Method(
        storage=group["storage"],
        codec=RowCodec(PRECONDITIONER_BOOKS[group["codebook"]], group["block"]),
        algebra=LINEAR_ALGEBRA[group["linalg"]],
        beta=group["beta"],
        error_beta=group["error_beta"],
        eps=group["eps"],
        separate_scales=group["scales"] == "separate",
        relative_ridge=group["ridge"] == "relative",
        root=group["root"],
        newton_cap=group["newton_cap"],
        rectify_statistics=group["rectify_statistics"],
        rectify_roots=group["rectify_roots"],
        ridge_attempts=group["ridge_attempts"],
        min_elements=group["min_elements"],
    )


def check_options(group: dict[str, Any], place: str) -> None:
    """Refuse a group with an option out of its range."""
    for option, allowed in CHOICES.items():
        choice(group[option], allowed, option, place)
    if group["root"] == "eigh" and group["linalg"] == "chip":
        raise InputError(
            f'{place}: root = "eigh" is not made of a chip\'s operations, which linalg = "chip" '
            'asks for: take root = "newton", or linalg = "library"'
        )
    group["betas"] = betas_in_range(group["betas"], place)
    within(group["lr"], 0.0, 10.0, "lr", place)
    within(group["weight_decay"], 0.0, 100.0, "weight_decay", place)
    within(group["adam_eps"], 0.0, 1.0, "adam_eps", place)
    within(group["eps"], 0.0, 1.0, "eps", place, open_ends=True)
    for option in ("beta", "error_beta", "momentum"):
        within(group[option], 0.0, 1.0, option, place)
    for option in ("statistics_every", "roots_every", "block", "newton_cap", "max_order"):
        whole(group[option], 1, option, place)
    for option in ("rectify_statistics", "rectify_roots", "ridge_attempts", "min_elements"):
        whole(group[option], 0, option, place)
