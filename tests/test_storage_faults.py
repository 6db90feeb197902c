"""Full disks, read-only folders, limits, and files that somebody else wrote."""

import json
import os
import pickle
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tapeout.formats import InputError
from tapeout.scenarios import Study, open_study
from tapeout.scenarios.checkpoint import load_checkpoint, save_checkpoint
from tapeout.scenarios.execution import execute
from tapeout.scenarios.storage import DamagedFile, read_rows, write_bytes
from tapeout.tests.sweeps import assert_same_runs, write_study

pytestmark = pytest.mark.usefixtures("one_thread")
LIMITED = """
import resource, sys
from pathlib import Path
from tapeout.formats import InputError
from tapeout.scenarios.storage import write_bytes
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
place = Path(sys.argv[1])
write_bytes(place / "a", b"old")
try:
    write_bytes(place / "a", bytes(5000))
except InputError as error:
    print(error)
"""
UNPRIVILEGED = """
import os, sys
from pathlib import Path
from tapeout.formats import InputError
from tapeout.scenarios.folder import RunFolder
from tapeout.scenarios.storage import remove, write_bytes
if os.getuid() == 0:
    os.setuid(65534)  # root may write everywhere
place = Path(sys.argv[1])
for work in (
    lambda: write_bytes(place / "a", b"new"),
    lambda: remove(place / "a"),
    lambda: RunFolder(place / "run").locked().__enter__(),
):
    try:
        work()
    except InputError as error:
        print(error)
"""


def test_file_that_grows_too_large_is_named_and_the_old_one_stays(tmp_path: Path) -> None:
    told = run_python(LIMITED, tmp_path)
    assert told == f"{tmp_path / 'a'}: cannot be written: File too large\n"
    assert (tmp_path / "a").read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


def test_read_only_folder_is_named(tmp_path: Path) -> None:
    place = Path("/tmp") / f"tapeout-read-only-{os.getpid()}"  # an unprivileged user gets there
    place.mkdir()
    try:
        (place / "a").write_bytes(b"old")
        place.chmod(0o555)
        lines = run_python(UNPRIVILEGED, place).splitlines()
        assert lines == [
            f"{place / 'a'}: cannot be written: Permission denied",
            f"{place / 'a'}: cannot be deleted: Permission denied",
            f"{place / 'run'}: the folder cannot be made: Permission denied; choose another "
            "with --out",
        ]
        assert (place / "a").read_bytes() == b"old"
    finally:
        place.chmod(0o755)
        (place / "a").unlink()
        place.rmdir()


def run_python(code: str, place: Path) -> str:
    """What a program prints, run in a process of its own."""
    command = [sys.executable, "-c", code, str(place)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 600 KB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(place)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("no file system may be mounted here: the full disk needs one of its own")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_full_disk_is_named_and_the_run_goes_on_when_there_is_room(
    small_disk: Path, tmp_path: Path
) -> None:
    study = open_study(write_study(tmp_path, seeds=1), small_disk)
    whole = open_study(write_study(tmp_path, seeds=1), tmp_path / "whole")
    for run, folder in zip(whole.runs, whole.folders, strict=True):
        execute(run, folder)
    filler = small_disk / "filler"
    filler.write_bytes(bytes(520_000))
    with pytest.raises(InputError, match=r"\.\w+: cannot be written: No space left"):
        execute(study.runs[1], study.folders[1])
    assert not list(small_disk.rglob(".writing-*")), "what could not be written does not stay"
    filler.unlink()
    begun = max(study.folders[1].checkpoints(), default=0)
    steps: list[int] = []
    execute(study.runs[1], study.folders[1], lambda step, loss: steps.append(step))
    assert steps == list(range(begun + 1, 10))
    one = Study(study.path, study.runs[1:], study.folders[1:])
    assert_same_runs(one, Study(whole.path, whole.runs[1:], whole.folders[1:]))


class Payload:
    """What runs when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path(os.environ["TAPEOUT_TEST_MARK"]),)


def crafted(path: Path) -> Iterator[tuple[str, bytes]]:
    """Checkpoints that somebody else wrote, by what is in them."""
    yield "pickle", pickle.dumps(Payload())
    torch.save({"session": Payload()}, path)
    yield "torch.save", path.read_bytes()
    for tree in ("[]", '{"dict": 3}', '{"run": "it"}', "[" * 20000, "null", '{"tensor": "x"}'):
        save_checkpoint(path, {})
        header = json.loads(path.read_bytes()[8:])
        import hashlib

        fake = {"tree": tree, "sha256": hashlib.sha256(tree.encode()).hexdigest()}
        header["__metadata__"] = {"tapeout": json.dumps(fake)}
        text = json.dumps(header).encode()
        yield tree[:12], struct.pack("<Q", len(text)) + text
    yield "huge header", struct.pack("<Q", 1 << 62) + b"{}"
    yield "empty", b""


def test_files_of_others_execute_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark, path = tmp_path / "mark", tmp_path / "c.safetensors"
    monkeypatch.setenv("TAPEOUT_TEST_MARK", str(mark))
    pickle.loads(pickle.dumps(Payload()))
    assert mark.exists(), "the payload works"
    mark.unlink()
    count = 0
    for what, data in list(crafted(path)):
        path.write_bytes(data)
        with pytest.raises(DamagedFile, match=r"c\.safetensors: is damaged"):
            print(what, load_checkpoint(path))
        count += 1
    segment = tmp_path / "step-000001.parquet"
    segment.write_bytes(pickle.dumps(Payload()))
    with pytest.raises(DamagedFile, match="is damaged"):
        read_rows(segment)
    field = pa.field("step", pa.int64(), metadata={
        "ARROW:extension:name": "arrow.py_extension_type",
        "ARROW:extension:metadata": pickle.dumps(Payload()),
    })  # fmt: skip
    pq.write_table(pa.table({"step": [1]}, schema=pa.schema([field])), segment)
    assert read_rows(segment) == [{"step": 1}]
    assert count == 10 and not mark.exists()


@pytest.mark.parametrize("name", ["../../../outside", "metrics/../run.json", "metrics/step-1.exe"])
def test_a_result_cannot_lead_out_of_its_folder(tmp_path: Path, name: str) -> None:
    from tapeout.scenarios.folder import RunFolder
    from tapeout.scenarios.layout import digest

    folder = RunFolder(tmp_path / "study" / "run")
    folder.path.mkdir(parents=True)
    content = {"schema": 1, "status": "finished", "inputs": "i", "files": {name: "0" * 64}}
    text = json.dumps(content | {"digest": digest(content)})
    (folder.path / "result.json").write_text(text)
    with pytest.raises(DamagedFile, match=r"result\.json: is damaged"):
        folder.ending("i")


def test_checkpoint_of_another_run_or_step_is_not_gone_on_from(tmp_path: Path) -> None:
    study = open_study(write_study(tmp_path, seeds=1), tmp_path / "runs")
    for run, folder in zip(study.runs, study.folders, strict=True):
        execute(run, folder)
    first, second = study.folders
    (second.path / "result.json").unlink()
    write_bytes(second.checkpoint(9), first.checkpoint(9).read_bytes())
    write_bytes(second.checkpoint(8), second.checkpoint(4).read_bytes())
    steps: list[int] = []
    outcome = execute(study.runs[1], second, lambda step, loss: steps.append(step))
    assert steps == [5, 6, 7, 8, 9]
    assert "step-000009.safetensors: does not belong to the inputs" in outcome.notes[0]
    assert "step-000008.safetensors: is not the state after step 8" in outcome.notes[1]
