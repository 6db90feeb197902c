"""Models and optimizers that nobody wrote for Tapeout train under every recipe on the main chips.

A loss must fall on the one batch that is trained on, and the trace must hold every matrix product
of forward and backward, in the module that owns it and in its role, as counted by hand.
"""

import itertools
import math

import pytest

from tapeout.formats import InputError
from tapeout.simulator import emulate, list_recipes, load_chip, load_recipe
from tapeout.tests.programs import OPTIMIZERS, PROGRAMS, Counts, Run, count_products, train

CHIPS = ("nvidia-h100", "nvidia-b200", "amd-mi300x", "generic-fp8-sr", "generic-int4")
#: Recipes whose operands a chip's matrix units do not multiply; all other pairs must run.
REFUSED: dict[str, set[str]] = {
    "nvidia-h100": {"int4"},
    "nvidia-b200": {"int4"},
    "amd-mi300x": {"int4"},
    "generic-fp8-sr": {"int4"},
    "generic-int4": {"fp8"},
}
PAIRS = [(c, r) for c in CHIPS for r in list_recipes() if r not in REFUSED[c]]
#: Each pair with a program and an optimizer in turn: the two cycles have no common factor, so that
#: every program meets every optimizer.
COVERING = [
    (*pair, program, optimizer)
    for pair, (program, optimizer) in zip(
        PAIRS, itertools.cycle(itertools.product(PROGRAMS, OPTIMIZERS)), strict=False
    )
]


def trained(chip: str, recipe: str, program: str, optimizer: str, steps: int) -> Run:
    """Train, and check what holds of any run."""
    run = train(PROGRAMS[program], optimizer, steps, load_chip(chip), load_recipe(recipe))
    assert all(math.isfinite(loss) for loss in run.losses), run.losses
    expected = {
        module: Counts(*(steps * n for n in counts))
        for module, counts in PROGRAMS[program].products.items()
    }
    assert count_products(run.rows) == expected
    assert not run.coverage["native"], run.coverage["native"]
    return run


@pytest.mark.parametrize(("chip", "recipe", "program", "optimizer"), COVERING)
def test_programs_train_under_every_recipe(
    chip: str, recipe: str, program: str, optimizer: str
) -> None:
    run = trained(chip, recipe, program, optimizer, 2)
    assert run.losses[1] != run.losses[0]


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize(("chip", "recipe"), PAIRS)
def test_programs_train_twenty_steps(chip: str, recipe: str, program: str, optimizer: str) -> None:
    run = trained(chip, recipe, program, optimizer, 20)
    assert min(run.losses[-3:]) < run.losses[0]


@pytest.mark.parametrize(("chip", "recipe"), [(c, r) for c in CHIPS for r in sorted(REFUSED[c])])
def test_a_chip_refuses_what_it_cannot_multiply(chip: str, recipe: str) -> None:
    with (
        pytest.raises(InputError, match=chip),
        emulate(load_chip(chip), load_recipe(recipe)),
    ):
        pass


def test_fast_runs_cover_every_part() -> None:
    """Every recipe, chip, program and optimizer, and every program with every optimizer."""
    assert {recipe for _, recipe, _, _ in COVERING} == set(list_recipes())
    assert {chip for chip, _, _, _ in COVERING} == set(CHIPS)
    both = {(program, optimizer) for _, _, program, optimizer in COVERING}
    assert both == set(itertools.product(PROGRAMS, OPTIMIZERS))
