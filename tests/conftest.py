"""Shared by several test files: a study that takes a few seconds."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tapeout.formats import jit

# Without a GPU, Triton's kernels are tested in its interpreter, which is chosen before any import.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

HEAD = """
name = "tiny"
summary = "as small as a study can be"
reference = "ieee"
seeds = [0]
tolerance = 0.5

[model]
kind = "vit"
patch = 4
width = 16
depth = 1
heads = 2

[data]
test_fraction = 0.05

[train]
steps = 5
batch = 8
evaluate_every = 3
checkpoint_every = 2
trace_every = 2
probe = 8
"""
OPTIMIZERS = """
[[optimizers]]
name = "{}"
"""
COLUMNS = """
[[columns]]
name = "ieee"
chip = "ieee-float32"
recipe = "fp32"

[[columns]]
name = "int4"
chip = "generic-int4"
recipe = "int4"
"""


def pytest_configure() -> None:
    """Each of several test processes takes its share of the cores: more threads only wait."""
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if processes > 1:
        threads = max(1, (os.cpu_count() or 1) // processes)
        jit.start_threads()
        jit.limit_threads(threads)
        torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def write_tiny() -> Callable[..., Path]:
    """Writes the scenario tiny.toml into a folder and returns its path.

    Each (old, new) of `changes` is replaced once; `optimizers` are names with spaces between.
    """

    def write(folder: Path, *changes: tuple[str, str], optimizers: str = "adamw") -> Path:
        text = HEAD + "".join(OPTIMIZERS.format(name) for name in optimizers.split()) + COLUMNS
        for old, new in changes:
            assert old in text, f"{old!r} is not in the tiny scenario"
            text = text.replace(old, new, 1)
        path = folder / "tiny.toml"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def one_thread() -> Iterator[None]:
    """For small tensors: threads that wait for each other cost more than they compute."""
    jit.start_threads()
    threads, kernels = torch.get_num_threads(), jit.limit_threads(1)
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    jit.limit_threads(kernels)
