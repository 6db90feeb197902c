"""The machine code of Triton's kernels, compiled for GPUs that need not be there.

What would change bits is looked for in it: subnormals flushed to zero, approximate division and
roots, fused multiply-adds where two roundings are meant, tensor cores (of tf32 or of the GPU's own
sums). Whether the code runs, no machine without a GPU can tell.
"""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

pytest.importorskip("triton")


def compiled(capability: int, what: str) -> list[dict[str, Any]]:
    """The report of `triton_code.compiling`, in a process in which Triton compiles."""
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    command = [sys.executable, "-W", "ignore", "-m", "tapeout.tests.triton_code.compiling"]
    done = subprocess.run(
        [*command, str(capability), what], env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def check(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        assert not row["flushed"] and not row["approximate"] and not row["tensor core"], row
        assert not row["fused"] or row["kernel"] in ("operate", "matmul_fma"), row
        assert row["lines"] > 20, row


def test_kernels_of_a_few_operations_compile_to_exact_code() -> None:
    rows = compiled(90, "few")
    check(rows)
    assert {row["kernel"] for row in rows} == {"convert", "matmul", "matmul_fma", "operate"}
    fused = [row for row in rows if row["kernel"] == "matmul_fma"]
    assert all(row["fused"] for row in fused) and fused


def test_the_reader_of_code_sees_what_it_looks_for() -> None:
    from tapeout.tests.triton_code.compiling import report

    code = "mul.ftz.f32 a;\nfma.rn.f32 b;\ndiv.approx.f32 c;\nwgmma.mma_async d;\n// fma.rn.f32\n"
    row = report("x", "y", code)
    assert (row["flushed"], row["fused"], row["approximate"], row["tensor core"]) == (1, 1, 1, 1)


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90, 100])
def test_every_kernel_compiles_to_exact_code(capability: int) -> None:
    rows = compiled(capability, "all")
    check(rows)
    names = {row["kernel"] for row in rows}
    assert names >= {
        "convert", "find_largest", "scale_blocks", "count_reached", "look_up", "matmul",
        "matmul_fma", "matmul_grouped", "add", "saturate", "operate", "settle", "fold",
        "tree_rows", "sequence", "add_rows", "reciprocal_scales",
    }, names  # fmt: skip
    modules = {row["module"].rsplit(".", 1)[1] for row in rows if row["kernel"] == "matmul"}
    assert modules == {"chain", "fused", "two_stage", "exact", "tree"}
