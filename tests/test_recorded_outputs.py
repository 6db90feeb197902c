"""Matrix units against recorded outputs of real tensor cores, kernel and exact reference.

The recordings (Khattak & Mikaitis, MATLAB-tensor-core) are not part of this repository; without
the folder these tests skip. The sign of zero and NaN payloads are not settled by them.
"""

from pathlib import Path

import pytest

from tapeout.formats import InputError
from tapeout.simulator import list_chips, load_chip
from tapeout.simulator.tables import read_toml
from tapeout.simulator.verification import (
    Policy,
    check_files,
    compare,
    recorded,
    simulate,
    simulate_exactly,
)

VECTORS = Path(__file__).parent.parent.parent / "shared" / "vectors"
TABLE = read_toml(Path(recorded.__file__).with_name("recordings.toml"))["recordings"]
FILES = [(chip, row["file"]) for row in TABLE for chip in row["chips"]]
LOOSE = Policy(signed_zero=False)
needs_vectors = pytest.mark.skipif(
    not VECTORS.is_dir(), reason="recorded tensor core outputs are not on this machine"
)


@needs_vectors
@pytest.mark.parametrize(("chip", "file"), FILES)
def test_unit_equals_recorded_outputs(chip: str, file: str) -> None:
    for recording in recorded.read_recordings(load_chip(chip), VECTORS / file):
        unit = recording.chosen.unit
        got = simulate(unit, recording.cases)
        result = compare(recording.results, got, unit.output, LOOSE)
        assert (result.compared, result.differ) == (5000, 0), recording.label
        assert exact_differ(recording, slice(0, 500)) == 0, recording.label


@needs_vectors
@pytest.mark.slow
@pytest.mark.parametrize(("chip", "file"), FILES)
def test_exact_reference_equals_all_recorded_outputs(chip: str, file: str) -> None:
    for recording in recorded.read_recordings(load_chip(chip), VECTORS / file):
        assert exact_differ(recording, slice(None)) == 0, recording.label


def exact_differ(recording: recorded.Recording, which: slice) -> int:
    """How many outputs of the exact twin differ, the sign of zero aside."""
    unit = recording.chosen.unit
    got = simulate_exactly(unit, recording.cases.take(which))
    return compare(recording.results[which], got, unit.output, LOOSE).differ


@needs_vectors
def test_every_file_of_the_folder_speaks_of_a_chip_of_the_library() -> None:
    assert {row["file"] for row in TABLE} == {path.name for path in VECTORS.glob("*.npz")}
    assert {chip for chip, _ in FILES} <= set(list_chips())
    found = {chip: check_files(load_chip(chip), VECTORS, None, Policy(), ignore)
             for chip in sorted({chip for chip, _ in FILES})}  # fmt: skip
    sets = sum(len(row["outputs"]) for row in TABLE)
    assert sum(map(len, found.values())) == sets == 22
    assert all(check.status == "equal" for checks in found.values() for check in checks)


@needs_vectors
def test_chip_without_recordings_is_told_so() -> None:
    with pytest.raises(InputError, match="none of generic-int4"):
        check_files(load_chip("generic-int4"), VECTORS, None, Policy(), ignore)


def ignore(done: int, total: int) -> None:
    """A progress bar for nobody."""
    assert 0 <= done <= total
