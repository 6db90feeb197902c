"""How good the weights are, measured on the emulated chip itself."""

from contextlib import nullcontext
from typing import Any

import torch

from ..simulator import emulate
from .measures import quality
from .session import Session

#: Evaluations draw their random bits from another seed than training, so that evaluating more
#: often does not change what is learned.
EVALUATION_SEED = 1 << 32


def evaluate(session: Session) -> dict[str, Any]:
    """Test loss and accuracy, and the loss on the first `probe` training examples, on the chip.

    The class scores are computed by the emulated chip; the loss and the accuracy are read off
    them outside, in float64, as an instrument would. An optimizer whose weights carry noise
    evaluates at its medians. Scales and stored weights are those that training has come to; what
    evaluating makes of them is dropped.
    """
    run, data, model = session.run, session.data, session.model
    quiet = getattr(session.optimizer, "eval_weights", nullcontext)
    size, probe = run.train.batch, run.train.probe
    model.eval()
    emulation = emulate(
        session.chip,
        session.recipe,
        model=model,
        seed=run.seed + EVALUATION_SEED,
        state=session.emulation,
    )
    with emulation, quiet(), torch.no_grad():
        test = [model(part) for part in torch.split(data.test_inputs, size)]
        train = [model(part) for part in torch.split(data.train_inputs[:probe], size)]
    model.train()
    loss, accuracy = quality(torch.cat(test), data.test_targets)
    return {
        "step": session.step,
        "test_loss": loss,
        "test_accuracy": accuracy,
        "train_loss": quality(torch.cat(train), data.train_targets[:probe])[0],
    }
