"""Step by step from the weights of a plain run, the reference machine computes what torch does.

Left alone, two runs that add in different orders part: an update divides by, or takes the sign
of, sums that may be nearly zero, and a ReLU passes or stops what lies within its last bits of
zero. So every step here starts from the plain run's weights and optimizer state, and gradients
are held against those of float64, to which no float32 order is nearer by right.
"""

import copy

import pytest
import torch
from torch import Tensor, nn

from tapeout.simulator import emulate, load_chip, load_recipe
from tapeout.tests.programs import OPTIMIZERS, PROGRAMS, Program

pytestmark = pytest.mark.usefixtures("one_thread")

IEEE, FP32 = load_chip("ieee-float32"), load_recipe("fp32")
STEPS = 4
#: Relative to the loss.
LOSS = 1e-6
#: Relative to the length of the whole gradient. Plain torch's own distance is up to 1e-6, and 0.09
#: where it takes the other side of a ReLU.
GRADIENT = 2e-6


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("program", PROGRAMS)
def test_every_step_is_the_plain_one(program: str, optimizer: str) -> None:
    subject, make = PROGRAMS[program], OPTIMIZERS[optimizer]
    model = subject.build()
    plain = make(model.parameters())
    for _ in range(STEPS):
        twin, wide = copy.deepcopy(model), copy.deepcopy(model).double()
        emulated = make(twin.parameters())
        emulated.load_state_dict(copy.deepcopy(plain.state_dict()))
        loss, exact = backward(subject, model), backward(subject, wide)
        with emulate(IEEE, FP32, model=twin):
            found = backward(subject, twin)
        assert abs(found - loss) <= LOSS * abs(loss)
        assert abs(found - exact) <= LOSS * abs(exact)
        assert distance(gradient(twin), gradient(wide)) <= GRADIENT
        for p, q in zip(model.parameters(), twin.parameters(), strict=True):
            q.grad = None if p.grad is None else p.grad.clone()
        with emulate(IEEE, FP32, model=twin):
            emulated.step()
        plain.step()
        # On the same gradient the update is the same to the bit.
        for p, q in zip(model.parameters(), twin.parameters(), strict=True):
            assert p.detach().numpy().tobytes() == q.detach().numpy().tobytes()


def backward(program: Program, model: nn.Module) -> float:
    """The loss, its gradient left in `model`; inputs follow the model's own precision."""
    dtype = next(model.parameters()).dtype

    def cast(value: object) -> object:
        floating = isinstance(value, Tensor) and value.is_floating_point()
        return value.to(dtype) if floating else value  # type: ignore[attr-defined]

    hook = model.register_forward_pre_hook(
        lambda _, args, kwargs: (tuple(map(cast, args)), {k: cast(v) for k, v in kwargs.items()}),
        with_kwargs=True,
    )
    model.zero_grad()
    loss = program.loss(model)
    loss.backward()  # type: ignore[no-untyped-call]
    hook.remove()
    return loss.item()


def gradient(model: nn.Module) -> Tensor:
    """All gradients, end to end, in float64."""
    return torch.cat([p.grad.double().flatten() for p in model.parameters() if p.grad is not None])


def distance(x: Tensor, exact: Tensor) -> float:
    """|x − exact| / |exact|."""
    assert x.shape == exact.shape
    return float((x - exact).norm() / exact.norm())
