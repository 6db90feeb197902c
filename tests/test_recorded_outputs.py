"""Matrix units against recorded outputs of real tensor cores.

The recordings (Khattak & Mikaitis, MATLAB-tensor-core) are not part of this repository; without
the folder these tests skip. The sign of zero and NaN payloads are not settled by them.
"""

from pathlib import Path

import numpy as np
import pytest

from tapeout.formats import quantize
from tapeout.simulator import load_chip

VECTORS = Path(__file__).parent.parent.parent / "shared" / "vectors"
CHIPS = {"v100": "nvidia-v100", "a100": "nvidia-a100", "ada": "nvidia-l40s", "h100": "nvidia-h100"}
FORMATS = {
    "fp16": "float16",
    "bf16": "bfloat16",
    "tf32": "tfloat32",
    "e4m3": "e4m3",
    "e5m2": "e5m2",
}
INPUTS = {
    "v100": ["fp16"],
    "a100": ["fp16", "bf16", "tf32"],
    "ada": ["fp16", "bf16", "tf32", "e4m3", "e5m2"],
    "h100": ["fp16", "bf16", "tf32", "e4m3", "e5m2"],
}
CASES = [
    (chip, kind, output)
    for chip, kinds in INPUTS.items()
    for kind in kinds
    for output in ("float32", "float16")
    if output == "float32" or kind in ("fp16", "e4m3", "e5m2")
]
needs_vectors = pytest.mark.skipif(
    not VECTORS.is_dir(), reason="recorded tensor core outputs are not on this machine"
)


@needs_vectors
@pytest.mark.parametrize(("chip", "kind", "output"), CASES)
def test_unit_equals_recorded_outputs(chip: str, kind: str, output: str) -> None:
    with np.load(VECTORS / f"{chip}_{kind}.npz") as file:
        a, b, c = (file[name].view(np.float32) for name in "abc")
        recorded = file["d_fp32" if output == "float32" else "d_fp16"].view(np.float32)
    instruction = None
    if chip == "h100" and kind in ("e4m3", "e5m2"):
        # The float32 outputs were recorded by wgmma with C = 0, the float16 ones by mma.sync.
        instruction = "wgmma" if output == "float32" else "mma.sync"
        c = np.zeros_like(c) if output == "float32" else c
    unit = load_chip(CHIPS[chip]).matrix_unit(FORMATS[kind], FORMATS[kind], output, instruction)
    if output == "float16":
        c = quantize(c, "float16", overflow="infinity")
    check = bool(np.isin(quantize(c, unit.accumulator, overflow="infinity"), c).all())
    kernel = unit.dot(a, b, c, check=check)
    reference = unit.reference.dot(a, b, c).astype(np.float32)
    assert len(recorded) == 5000
    assert differing(kernel, recorded) == 0
    assert differing(reference, recorded) == 0


def differing(x: np.ndarray, y: np.ndarray) -> int:
    """How many values differ, +0 and -0 being the same, and one NaN as good as another."""
    return int((~((x == y) | (np.isnan(x) & np.isnan(y)))).sum())
