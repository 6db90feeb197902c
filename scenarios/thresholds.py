"""What a team must see before it says go: the `[thresholds]` table."""

from typing import Annotated

from pydantic import Field

from ..simulator.tables import Row
from .hyperparameters import NonNegative, Positive

Share = Annotated[float, Field(ge=0, le=1)]


class Thresholds(Row):
    """The largest values, of `lr_margin` the smallest, with which a column is a GO.

    Each is judged alone, for every optimizer on every column, as GO, NO-GO or UNDECIDED; one that
    is left out is not judged.

    Attributes:
        quality_gap: loss of the final metric against the same optimizer in the reference column.
        diverged_share: share of runs that diverged.
        loss_spikes: loss spikes a run.
        optimizer_state_ratio: bytes of optimizer state, as a ratio to the reference's.
        memory_ratio: bytes of weights, masters, gradients, activations and optimizer state
            together, as a ratio to the reference's.
        seconds_ratio: emulated time, as a ratio to the reference's: time of this simulator, not
            of the chip.
        lr_margin: largest learning rate that still trains, as a ratio to the reference's; needs
            `lr_factors` in `[sweep]`.
        baseline: the optimizer whose reference column the ratios of bytes are taken to; the
            same optimizer's if left out.
    """

    quality_gap: NonNegative | None = None
    diverged_share: Share | None = None
    loss_spikes: NonNegative | None = None
    optimizer_state_ratio: Positive | None = None
    memory_ratio: Positive | None = None
    seconds_ratio: Positive | None = None
    lr_margin: Positive | None = None
    baseline: str | None = None
