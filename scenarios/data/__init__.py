"""The data a scenario can train on: a specification and a loader for each kind.

New data is a module beside this page, its specification joined to `DataSpec`, and one line in
`load_data`.
"""

from typing import Annotated, Any

from pydantic import Field

from .digits import DigitsSpec, load_digits
from .examples import Examples
from .linear import LinearSpec, load_linear
from .order import batch_indices
from .text import TextSpec, load_text, text_digest

AnyDataSpec = DigitsSpec | TextSpec | LinearSpec
DataSpec = Annotated[AnyDataSpec, Field(discriminator="kind")]


def load_data(spec: AnyDataSpec) -> Examples:
    """The examples that a scenario's `[data]` table asks for.

    Raises:
        InputError: a file that cannot be read, or data too small for its split.
    """
    match spec:
        case DigitsSpec():
            return load_digits(spec.test_fraction, spec.split_seed)
        case TextSpec():
            return load_text(spec)
        case LinearSpec():
            return load_linear(spec)


def data_inputs(spec: AnyDataSpec) -> dict[str, Any]:
    """The table, and a digest of what it reads from outside of Tapeout."""
    table = spec.model_dump(mode="json")
    return table | {"sha256": text_digest(spec)} if isinstance(spec, TextSpec) else table


__all__ = ["AnyDataSpec", "DataSpec", "Examples", "batch_indices", "data_inputs", "load_data"]
