"""The optimizers a scenario can name: one table each, with the class's own option names.

An option that a table leaves out has the default of the class, which is looked up there, so that
there is one place to tune it.
"""

from ...formats.errors import InputError, choice
from ...simulator.tables import checked
from .adaptive import AdamW4bitTable, AdamW8bitTable, AdamWTable, MuonTable
from .base import Count, Fraction, NonNegative, Positive
from .multiplicative import EgAdamWTable, EgTable, LmdTable, LnsMadamTable, MadamTable
from .shampoo import Shampoo4bitTable, ShampooTable, SoapTable

Optimizer = (
    AdamWTable | LmdTable | MadamTable | LnsMadamTable | EgTable | EgAdamWTable
    | ShampooTable | Shampoo4bitTable | SoapTable | AdamW8bitTable | AdamW4bitTable | MuonTable
)  # fmt: skip
TABLES: dict[str, type[Optimizer]] = {
    "adamw": AdamWTable,
    "lmd": LmdTable,
    "madam": MadamTable,
    "lns_madam": LnsMadamTable,
    "eg": EgTable,
    "eg_adamw": EgAdamWTable,
    "shampoo": ShampooTable,
    "shampoo4bit": Shampoo4bitTable,
    "soap": SoapTable,
    "adamw8bit": AdamW8bitTable,
    "adamw4bit": AdamW4bitTable,
    "muon": MuonTable,
}

__all__ = [
    "TABLES",
    "Count",
    "Fraction",
    "NonNegative",
    "Optimizer",
    "Positive",
    "check_optimizer",
]


def check_optimizer(table: object, number: int) -> object:
    """The checked row of `[[optimizers]]` table `number`; a value of another kind passes through.

    Raises:
        InputError: an unknown optimizer, or a key or value that it does not have.
    """
    if not isinstance(table, dict):
        return table
    if "name" not in table:
        raise InputError(f"table {number} has no name: add name = one of {', '.join(TABLES)}")
    name = choice(str(table["name"]), TABLES, f"table {number} name")
    return checked(TABLES[name], table, f"table {number} ({name})")
