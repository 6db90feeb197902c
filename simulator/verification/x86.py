"""The processor in front of the user: its own outputs for batches of operands."""

import json
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...formats import InputError, get_format
from .batch import Batch
from .codes import Codes
from .selection import Chosen
from .x86_instructions import INSTRUCTIONS, TILE_BYTES, TILE_ROWS, Instruction, intermediate_code

CPUINFO = Path("/proc/cpuinfo")
WORKER = Path(__file__).with_name("x86_worker.py")
UNSIGNED: dict[int, Any] = {8: np.uint8, 16: np.uint16, 32: np.uint32, 64: np.uint64}


@cache
def processor() -> tuple[str, frozenset[str]]:
    """Name and feature flags of the first core; without /proc/cpuinfo, no flags."""
    try:
        text = CPUINFO.read_text()
    except OSError:
        return "this processor", frozenset()
    facts: dict[str, str] = {}
    for line in text.split("\n\n")[0].splitlines():
        key, _, value = line.partition(":")
        facts[key.strip()] = value.strip()
    return facts.get("model name", "this processor"), frozenset(facts.get("flags", "").split())


def instructions_of(chosen: Chosen) -> list[Instruction]:
    """The rows that are this unit's instruction with these formats."""
    return [
        row
        for row in INSTRUCTIONS
        if row.name in (chosen.row.instructions if chosen.instruction == chosen.row.instruction
                        else (chosen.instruction,))
        and (row.a, row.b, row.output) == (chosen.a, chosen.b, chosen.row.output)
    ]  # fmt: skip


def missing(row: Instruction) -> str | None:
    """Why this machine cannot run the instruction; None if it can."""
    name, flags = processor()
    lacks = [flag for flag in row.flags if flag not in flags]
    if lacks:
        return f"{name} has no {row.form} ({', '.join(lacks)} not in {CPUINFO})"
    return _permission() if row.tile else None


@cache
def _permission() -> str | None:
    """Why the kernel gives no tile registers, asked for in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        request = {"tiles": True, "groups": 0}
        (Path(name) / "request.json").write_text(json.dumps(request))
        return _call(Path(name))


def lengths(row: Instruction) -> list[int]:
    """Lengths worth running: one instruction, several in a chain, and a tile cut short."""
    full = row.products
    return [full, 2 * full, full // 2, row.per_lane] if row.tile else [full, 8 * full]


def outputs(row: Instruction, batch: Batch) -> Codes:
    """What the processor gives for the batch, in the shape of C.

    Raises:
        InputError: the length is no whole number of instructions.
        RuntimeError: the process that ran it was killed; says by which signal.
    """
    a, b, c, steps = tile_layout(row, batch) if row.tile else lane_layout(row, batch)
    tiles = tile_configuration(row, min(batch.k, row.products)) if row.tile else np.zeros(64)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        arrays = {"a": a, "b": b, "c": c, "tiles": tiles}
        for key, array in arrays.items():
            np.save(folder / f"{key}.npy", np.ascontiguousarray(array))
        code = intermediate_code(row)
        request = {"tiles": row.tile, "groups": len(c), "steps": steps, "code": code}
        (folder / "request.json").write_text(json.dumps(request))
        reason = _call(folder)
        if reason:
            raise RuntimeError(f"{row.name} ({row.form}): {reason}")
        d = np.load(folder / "d.npy")
    return np.asarray(d.reshape(-1)[: batch.c.size].reshape(batch.c.shape), np.uint64)


def _call(folder: Path) -> str | None:
    """Run the worker; None, or what it said."""
    command = [sys.executable, "-P", str(WORKER), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    if done.returncode < 0:
        return f"the process that ran it was ended by signal {-done.returncode}"
    return (done.stdout or done.stderr).strip().splitlines()[-1]


def lane_layout(
    row: Instruction, batch: Batch
) -> tuple[NDArray[np.unsignedinteger], NDArray[np.unsignedinteger],
           NDArray[np.unsignedinteger], int]:  # fmt: skip
    """A and B as (groups, steps, lanes, products), C as (groups, lanes), and the steps.

    Outputs that do not fill the last group are followed by zeros.
    """
    steps = _steps(row, batch.k)
    groups = -(-batch.c.size // row.lanes)
    spare = groups * row.lanes - batch.c.size

    def blocks(codes: Codes, name: str) -> NDArray[np.unsignedinteger]:
        filled = np.concatenate([codes, np.zeros((spare, batch.k), np.uint64)])
        shaped = filled.reshape(groups, row.lanes, steps, row.products).transpose(0, 2, 1, 3)
        return shaped.astype(UNSIGNED[get_format(name).bits])

    c = np.concatenate([batch.c.reshape(-1), np.zeros(spare, np.uint64)])
    every = (*batch.c.shape, batch.k)
    a = np.broadcast_to(batch.a[:, :, None, :], every).reshape(-1, batch.k)
    b = np.broadcast_to(batch.b.transpose(0, 2, 1)[:, None], every).reshape(-1, batch.k)
    width = UNSIGNED[get_format(row.output).bits]
    return blocks(a, row.a), blocks(b, row.b), c.reshape(groups, -1).astype(width), steps


def tile_layout(
    row: Instruction, batch: Batch
) -> tuple[NDArray[np.unsignedinteger], NDArray[np.unsignedinteger],
           NDArray[np.unsignedinteger], int]:  # fmt: skip
    """A as tiles of 16 rows, B as tiles whose rows hold `per_lane` successive k of each column.

    A (T, steps, 16, row), B (T, steps, 16, 16, per_lane), C (T, 16, 16). A length below one
    instruction leaves the rest of each A row and the last rows of B unused (`tile_configuration`).
    """
    count, steps, inside = len(batch.c), _steps(row, batch.k), min(batch.k, row.products)
    each, width = row.per_lane, UNSIGNED[get_format(row.a).bits]
    a: NDArray[Any] = np.zeros((count, steps, TILE_ROWS, row.products), width)
    a[..., :inside] = batch.a.reshape(count, TILE_ROWS, steps, inside).transpose(0, 2, 1, 3)
    b: NDArray[Any] = np.zeros((count, steps, TILE_ROWS, TILE_ROWS, each), width)
    b[:, :, : inside // each] = batch.b.reshape(
        count, steps, inside // each, each, TILE_ROWS
    ).transpose(0, 1, 2, 4, 3)
    return a, b, batch.c.astype(np.uint32), steps


def _steps(row: Instruction, k: int) -> int:
    """Instructions for k products."""
    if row.tile and k < row.products and k % row.per_lane == 0:
        return 1
    if k % row.products:
        raise InputError(f"{row.name}: k = {k} is not a multiple of {row.products}")
    return k // row.products


def tile_configuration(row: Instruction, k: int) -> NDArray[np.uint8]:
    """The 64 bytes of LDTILECFG: tile 0 is C, 1 is A, 2 is B, for k products.

    Byte 0 is the palette, 1; bytes 16 + 2 t hold the bytes of a row of tile t, little end first;
    byte 48 + t holds its rows; all others are zero (Intel SDM, LDTILECFG).
    """
    config = np.zeros(64, np.uint8)
    config[0] = 1
    width = k * get_format(row.a).bits // 8
    for tile, (row_bytes, rows) in enumerate(
        ((TILE_BYTES, TILE_ROWS), (width, TILE_ROWS), (TILE_BYTES, k // row.per_lane))
    ):
        config[16 + 2 * tile], config[17 + 2 * tile] = row_bytes % 256, row_bytes // 256
        config[48 + tile] = rows
    return config
