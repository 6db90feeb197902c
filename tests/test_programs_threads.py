"""Whole programs leave the same bytes for one and two threads, and other bytes for another seed."""

import subprocess
import sys
from pathlib import Path

import pytest

from tapeout.simulator import load_chip, load_recipe
from tapeout.tests.programs import PROGRAMS, train

#: Trains in a process of its own, whose libraries start with that many threads.
CHILD = """
import sys
import numpy, torch
from tapeout.formats.jit import set_threads
threads, path = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(threads)
set_threads(threads)
from tapeout.simulator import load_chip, load_recipe
from tapeout.tests.programs import PROGRAMS, train
run = train(PROGRAMS["gpt2"], "adamw", 3, load_chip("generic-int4"), load_recipe("int4"), seed=7)
with open(path, "wb") as file:
    file.write(numpy.float64(run.losses).tobytes())
    for value in run.parameters.values():
        file.write(value.numpy().tobytes())
"""


def test_gpt2_with_stochastic_rounding_leaves_the_same_bytes_whatever_the_threads(
    tmp_path: Path,
) -> None:
    files = []
    for threads in (1, 2):
        files.append(tmp_path / str(threads))
        subprocess.run(
            [sys.executable, "-c", CHILD, str(threads), str(files[-1])], check=True, timeout=300
        )
    assert files[0].read_bytes() == files[1].read_bytes()
    assert files[0].stat().st_size > 10_000


@pytest.mark.parametrize("recipe", ["int4", "bf16-sr"])
def test_the_seed_decides_the_stochastic_bits(recipe: str) -> None:
    chip = load_chip("generic-int4")
    ends = [
        train(PROGRAMS["gpt2"], "sgd", 2, chip, load_recipe(recipe), seed=seed).losses
        for seed in (1, 1, 2)
    ]
    assert ends[0] == ends[1] != ends[2]
