"""What one run is given of a machine."""

from typing import Annotated

from pydantic import Field

from ..simulator.tables import Row


class ResourceSpec(Row):
    """The `[resources]` table: cores and GPUs of one run; no number depends on them.

    A run computes on `cpus` threads. `gpus` are reserved for it: it sees those devices and no
    others, and its model decides what to put there.
    """

    cpus: Annotated[int, Field(strict=True, ge=1)] = 1
    gpus: Annotated[int, Field(strict=True, ge=0)] = 0
