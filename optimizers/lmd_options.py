"""What the options of an LMD group may be."""

from typing import Any

from ..formats.errors import InputError, choice
from .checks import betas_in_range, within
from .components import PLACE, REGULARIZERS
from .medians import ROUNDINGS, medians_in
from .noise import NOISE_LAWS

CHOICES: dict[str, tuple[str, ...]] = {
    "rule": ("lmd", "adamw"),
    "momentum": ("components", "shared"),
    "update": ("sign", "plain"),
    "regularizer": tuple(REGULARIZERS),
    "prior": ("floor", "initial"),
    "init": ("exact", "independent"),
    "noise": tuple(NOISE_LAWS),
    "storage_rounding": ROUNDINGS,
}


def check_options(group: dict[str, Any]) -> None:
    """Refuse a group with an option out of its range.

    Raises:
        InputError: the option, its value and what it may be.
    """
    for option, allowed in CHOICES.items():
        choice(group[option], allowed, option, PLACE)
    medians_in(group["storage"], group["storage_rounding"], PLACE)
    group["betas"] = betas_in_range(group["betas"], PLACE)
    within(group["lr"], 0.0, 10.0, "lr", PLACE)
    within(group["decay"], 0.0, 100.0, "decay", PLACE)
    within(group["sigma"], 0.0, 2.0, "sigma", PLACE)
    within(group["floor"], 0.0, 100.0, "floor", PLACE, open_ends=True)
    within(group["temperature"], 0.0, 1e6, "temperature", PLACE)
    within(group["eps"], 0.0, 1.0, "eps", PLACE)
    within(group["weight_decay"], 0.0, 100.0, "weight_decay", PLACE)
    if group["temperature"] and group["momentum"] == "shared":
        raise InputError(
            'LMD: temperature acts on u± of each component: set momentum = "components" with it'
        )
    if group["noise"] == "rayleigh" and group["sigma"] == 0.0:
        raise InputError(
            "LMD: sigma = 0 has no Rayleigh noise, whose scale it is: give sigma above 0"
        )
