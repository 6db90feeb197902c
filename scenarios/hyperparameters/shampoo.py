"""Tables of Shampoo and its relatives."""

from typing import Annotated, Literal

from pydantic import Field

from ...optimizers import SOAP, Shampoo, Shampoo4bit
from .base import Betas, Count, Fraction, Natural, NonNegative, PlainTable, Positive


class ShampooOptions(PlainTable):
    """What both tables of Shampoo have in common."""

    lr: Positive
    base: Literal["adamw", "sgdm"]
    momentum: Fraction
    betas: Betas
    adam_eps: Positive
    weight_decay: NonNegative
    block: Count
    beta: Fraction
    eps: Positive
    statistics_every: Count
    roots_every: Count
    error_beta: Fraction
    scales: Literal["joint", "separate"]
    ridge: Literal["absolute", "relative"]
    root_from: Literal["stored", "fresh"]
    root: Literal["newton", "eigh"]
    newton_cap: Count
    rectify_statistics: Natural
    rectify_roots: Natural
    ridge_attempts: Natural
    grafting: Literal["norm", "none"]
    linalg: Literal["library", "chip"]
    min_elements: Natural
    max_order: Count
    nonfinite: Literal["refuse", "skip"]


class ShampooTable(ShampooOptions):
    """`name = "shampoo"`: Shampoo with the storage of its preconditioners as a choice."""

    kind = Shampoo
    name: Literal["shampoo"]
    storage: Literal["float32", "vq", "cq", "cq_ef", "eigen"]
    codebook: Literal[
        "linear2_4bit", "linear2_3bit", "linear2_8bit",
        "dynamic_tree_4bit", "dynamic_tree_3bit", "dynamic_8bit",
    ]  # fmt: skip


class Shampoo4bitTable(ShampooOptions):
    """`name = "shampoo4bit"`: Shampoo whose preconditioners take 4 bits an element."""

    kind = Shampoo4bit
    name: Literal["shampoo4bit"]
    storage: Literal["vq", "cq", "cq_ef", "eigen"]
    codebook: Literal["linear2_4bit", "dynamic_tree_4bit"]


class SoapTable(PlainTable):
    """`name = "soap"`: Adam in the eigenbasis of Shampoo's preconditioners."""

    kind = SOAP
    name: Literal["soap"]
    lr: Positive
    betas: Betas
    eps: Positive
    weight_decay: NonNegative
    shampoo_beta: Annotated[float, Field(ge=-1, lt=1)]
    frequency: Count
    max_order: Count
    storage: Literal["float32", "dynamic_8bit"]
    block: Count
    min_elements: Natural
    linalg: Literal["library", "chip"]
    nonfinite: Literal["refuse", "skip"]
