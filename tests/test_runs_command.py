"""`tapeout runs`: what it lists, what it deletes, and what it must never delete."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tapeout.__main__ import main
from tapeout.scenarios.cleaning import delete_runs
from tapeout.scenarios.folder import RunFolder
from tapeout.scenarios.layout import digest
from tapeout.scenarios.listing import list_runs
from tapeout.tests.sweeps import contents

Runs = Callable[..., tuple[int, Any]]
DAY = 86400


def make_run(study: Path, number: int, result: dict[str, Any] | None) -> dict[str, Any]:
    """A run folder as a sweep leaves it, as far as a listing reads it; its row of study.json."""
    column, optimizer = ("a", "adamw") if number % 2 else ("b", "lmd")
    place = study / f"{column}--{optimizer}--s{number}--{number:08x}"
    place.mkdir(parents=True)
    (place / "run.json").write_text("{}")
    (place / "checkpoints").mkdir()
    (place / "checkpoints" / "step-000001.safetensors").write_bytes(bytes(1000))
    if result:
        facts = {"reason": "", "step": 9, "inputs": digest({}), "files": {}}
        content = {"schema": 1, **result, **facts}
        (place / "result.json").write_text(json.dumps(content | {"digest": digest(content)}))
    return {"folder": place.name, "column": column, "optimizer": optimizer, "seed": number}


FINISHED = {"status": "finished", "final": {"test_loss": 0.5}}
DIVERGED = {"status": "diverged", "final": {"test_loss": None}}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A study with a run of every status."""
    study = tmp_path / "runs" / "s-00000000"
    rows = [make_run(study, n, r) for n, r in enumerate([FINISHED, DIVERGED, None, FINISHED])]
    rows.append(rows[0] | {"folder": "b--lmd--s4--00000004", "seed": 4})
    damaged = study / rows[3]["folder"] / "result.json"
    damaged.write_bytes(damaged.read_bytes()[:-9])
    make_run(study, 5, FINISHED)
    (study / ".deleting-a--adamw--s7").mkdir()
    (study / "report.html").write_text("the report is nobody's run")
    (study / "study.json").write_text(json.dumps({"metric": "test_loss", "runs": rows}))
    (tmp_path / "runs" / "notes").mkdir()
    return tmp_path / "runs"


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Runs:
    """`tapeout runs ... --json`: the exit code, and the document."""

    def run(*arguments: object) -> tuple[int, Any]:
        monkeypatch.setattr(sys, "argv", ["tapeout", "runs", *map(str, arguments), "--json"])
        with pytest.raises(SystemExit) as ended:
            main()
        text = capsys.readouterr().out
        return int(ended.value.code or 0), json.loads(text) if text else {}

    return run


def test_every_status_is_listed(out: Path, runs: Runs) -> None:
    code, told = runs(out)
    found = {(row["seed"], row["status"]) for row in told["runs"]}
    expected = {(0, "finished"), (1, "diverged"), (2, "unfinished"), (3, "damaged")}
    assert code == 1 and found == expected | {(4, "waiting"), (None, "foreign"), (None, "leftover")}
    (first,) = [row for row in told["runs"] if row["seed"] == 0]
    assert (first["final"], first["step"], first["study"]) == (0.5, 9, "s-00000000")
    assert runs(out / "s-00000000")[1] == told
    assert runs(out / "none") == (0, {"runs": []})


def test_filters_hold_together(out: Path, runs: Runs) -> None:
    def seeds(*arguments: object) -> list[int]:
        return [row["seed"] for row in runs(out, *arguments)[1]["runs"]]

    assert seeds("--status", "finished", "--status", "diverged") == [0, 1]
    assert seeds("--optimizer", "lmd", "--status", "unfinished") == [2]
    assert seeds("--column", "a", "--seed", "1", "--seed", "2") == [1]
    old = time.time() - 10 * DAY
    (place,) = out.glob("*/b--lmd--s0--*/result.json")
    os.utime(place, (old, old))
    assert seeds("--before", "9d", "--status", "finished") == [0]
    assert seeds("--since", "9d", "--status", "finished") == []
    assert seeds("--since", "2020-01-31", "--status", "finished") == [0]


def test_nothing_is_deleted_without_yes_and_only_what_was_chosen_with_it(
    out: Path, runs: Runs
) -> None:
    before = contents(out)
    assert "1 run folders, 0.0 MB, would be deleted: add --yes" in str(
        runs(out, "--status", "unfinished", "--clean", "runs")
    )
    assert contents(out) == before
    for status, seed in (("unfinished", 2), ("damaged", 3), ("foreign", 5)):
        runs(out, "--status", status, "--clean", "runs", "--yes")
        before = {name: data for name, data in before.items() if f"--s{seed}--" not in name}
        assert contents(out) == before
    runs(out, "--status", "leftover", "--clean", "runs", "--yes")
    assert not list(out.glob("*/.deleting*")) and (out / "notes").is_dir()
    runs(out, "--status", "finished", "--clean", "checkpoints", "--yes")
    gone = "s-00000000/b--lmd--s0--00000000/checkpoints/step-000001.safetensors"
    assert before.keys() - contents(out).keys() == {gone}
    assert runs(out, "--clean", "runs", "--yes") == (2, {}), "everything is never meant"


def test_run_that_a_process_computes_is_left_alone(out: Path) -> None:
    (row,) = [row for row in list_runs(out) if row.status == "unfinished"]
    with RunFolder(row.path).locked():
        assert delete_runs([row]) == ([], [row])
    assert row.path.is_dir()
    assert delete_runs([row]) == ([row], []) and not row.path.exists()


def test_verify_reads_every_file(out: Path, runs: Runs) -> None:
    code, told = runs(out, "--verify", "--seed", "0")
    assert code == 1 and told["runs"][0]["status"] == "damaged"
    assert "step-000001.safetensors: is damaged" in told["runs"][0]["reason"]
    (place,) = out.glob("*/b--lmd--s0--*")
    (place / "checkpoints" / "step-000001.safetensors").unlink()
    assert runs(out, "--verify", "--seed", "0")[0] == 0
    (place / "metrics").mkdir()
    (place / "metrics" / "step-000001.parquet").write_bytes(b"")
    told = runs(out, "--verify", "--seed", "0")[1]
    assert "metrics/step-000001.parquet: is no segment of this run" in told["runs"][0]["reason"]


@pytest.mark.parametrize("folder", ["../../elsewhere", "..", ""])
def test_a_study_cannot_name_folders_outside_of_itself(out: Path, folder: str) -> None:
    study = out / "s-00000000" / "study.json"
    row = {"folder": folder, "column": "a", "optimizer": "adamw", "seed": 1}
    study.write_text(json.dumps({"metric": "test_loss", "runs": [row]}))
    (row_found,) = list_runs(out)
    assert row_found.status == "damaged" and row_found.path == study
    assert delete_runs([row_found]) == ([], []) and study.exists()


def test_a_wrong_age_is_refused(out: Path, runs: Runs) -> None:
    assert runs(out, "--since", "yesterday")[0] == 2


@pytest.mark.slow
def test_ten_thousand_runs_are_listed_within_two_seconds(tmp_path: Path) -> None:
    """Two seconds of processor time, start of the command included; read anew from the disk."""
    files = {f"{t}/step-{50 * n:06d}.parquet": "0" * 64 for t in ("metrics", "trace", "evaluations")
             for n in range(1, 21)}  # fmt: skip
    for number in range(10):
        study = tmp_path / f"s-{number:08x}"
        rows = [make_run(study, 1000 * number + n, FINISHED | {"more": files}) for n in range(1000)]
        (study / "study.json").write_text(json.dumps({"metric": "test_loss", "runs": rows}))
    os.sync()
    for path in tmp_path.glob("*/*/result.json"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    times, start = os.times(), time.monotonic()
    command = [sys.executable, "-m", "tapeout", "runs", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    now, wall = os.times(), time.monotonic() - start
    spent = now.children_user + now.children_system - times.children_user - times.children_system
    print(f"10,000 runs: {spent:.2f} s of processor time, {wall:.2f} s by the clock")
    assert "10000 runs: 10000 finished" in done.stdout
    assert spent < 2
