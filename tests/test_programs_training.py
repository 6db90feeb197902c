"""Models and optimizers that nobody wrote for Tapeout train under every recipe on the main chips.

A loss must fall on the one batch that is trained on, and the trace must hold every matrix product
of forward and backward, in the module that owns it and in its role, as counted by hand.
"""

import itertools
import math

import pytest

from tapeout.simulator import list_recipes, load_chip, load_recipe
from tapeout.tests.programs import OPTIMIZERS, PROGRAMS, Counts, Run, count_products, train

pytestmark = pytest.mark.usefixtures("one_thread")

CHIPS = ("nvidia-h100", "nvidia-b200", "amd-mi300x", "generic-fp8-sr", "generic-int4")
RECIPES = list_recipes()


def _covering() -> list[tuple[str, str, str, str]]:
    """Every recipe twice, on different chips, in different programs."""
    rows = []
    programs, optimizers = list(PROGRAMS), list(OPTIMIZERS)
    for turn, (at, recipe) in itertools.product(range(2), enumerate(RECIPES)):
        chip = CHIPS[(at + 2 * turn) % len(CHIPS)]
        program = programs[(at + turn) % len(programs)]
        rows.append((chip, recipe, program, optimizers[(at // 3 + turn) % len(optimizers)]))
    return rows


COVERING = _covering()


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
    assert run.losses[1] < run.losses[0]


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("chip", CHIPS)
def test_programs_train_twenty_steps(chip: str, recipe: str, program: str, optimizer: str) -> None:
    run = trained(chip, recipe, program, optimizer, 20)
    assert min(run.losses[-3:]) < run.losses[0]


def test_fast_runs_cover_every_part() -> None:
    """Every recipe, chip, program and optimizer, and every program with every optimizer."""
    assert {recipe for _, recipe, _, _ in COVERING} == set(RECIPES)
    assert {chip for chip, _, _, _ in COVERING} == set(CHIPS)
    assert len({(chip, recipe) for chip, recipe, _, _ in COVERING}) == 2 * len(RECIPES)
    both = {(program, optimizer) for _, _, program, optimizer in COVERING}
    assert both == set(itertools.product(PROGRAMS, OPTIMIZERS))
