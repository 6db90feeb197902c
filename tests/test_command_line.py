"""The command line: what it prints, its exit codes, and no traceback for a user's mistake."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tapeout.__main__ import main
from tapeout.formats import get_format, list_block_formats, list_formats
from tapeout.scenarios import list_scenarios, open_study
from tapeout.simulator import list_chips

WriteTiny = Callable[..., Path]


class Ended(NamedTuple):
    """What a command left: exit code, output, error stream."""

    code: int
    out: str
    err: str


Command = Callable[..., Ended]


@pytest.fixture
def tapeout(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command line in this process, where every exception would surface."""

    def run(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["tapeout", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        captured = capsys.readouterr()
        return Ended(code if isinstance(code, int) else 1, captured.out, captured.err)

    return run


MISTAKES: dict[str, tuple[tuple[str, str], str]] = {
    "chip": (('chip = "generic-int4"', 'chip = "generic-int5"'), '(did you mean "generic-int4"?)'),
    "recipe": (('recipe = "int4"', 'recipe = "int44"'), '(did you mean "int4"?)'),
    "rounding": (
        ('recipe = "int4"', 'recipe = "int4"\noverride = { rounding = "nearest_evn" }'),
        '(did you mean "nearest_even"?)',
    ),
    "model": (('kind = "vit"', 'kind = "vitt"'), '(did you mean "vit"?)'),
    "key": (("steps = 5", "steps = 5\nstep = 5"), '(did you mean "steps"?)'),
    "optimizer": (('name = "adamw"', 'name = "adam"'), '(did you mean "adamw"?)'),
    "broken TOML": (("seeds = [0]", "seeds = [0"), "is not valid TOML"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_in_a_scenario_is_one_line_and_writes_nothing(
    write_tiny: WriteTiny, tapeout: Command, tmp_path: Path, mistake: str
) -> None:
    change, told = MISTAKES[mistake]
    ended = tapeout("run", write_tiny(tmp_path, change), "--out", tmp_path / "runs")
    assert_refused(ended, told)
    assert not (tmp_path / "runs").exists()


def assert_refused(ended: Ended, told: str) -> None:
    """One line that starts with `error:` and holds `told`, exit code 2, nothing else."""
    assert ended.code == 2 and ended.out == ""
    assert ended.err.startswith("error: ") and ended.err.count("\n") == 1
    assert told in ended.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("run", "quickstrat"), '(did you mean "quickstart"?)'),
        (("run", "absent.toml"), "absent.toml: no such file"),
        (("run", "quickstart", "--jobs", "0"), "jobs = 0 must be at least 1"),
        (("report", "absent"), "absent: holds no study.json"),
        (("chips", "nvidia-h10"), '(did you mean "nvidia-h100"?)'),
        (("chips", "absent.toml"), "absent.toml: no such file"),
        (("formats", "float8_e4m3nf"), '(did you mean "float8_e4m3fn"?)'),
    ],
)
def test_unknown_name_or_missing_file_is_one_line(
    tapeout: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert_refused(tapeout(*arguments), told)


def test_broken_chip_file_and_damaged_study_are_one_line(
    write_tiny: WriteTiny, tapeout: Command, tmp_path: Path
) -> None:
    chip = tmp_path / "chip.toml"
    chip.write_text('name = "mine"\nsumary = "x"\n')
    assert_refused(tapeout("chips", chip), '"sumary" (did you mean "summary"?)')
    study = open_study(write_tiny(tmp_path), tmp_path / "runs")
    record = study.path / "study.json"
    record.write_bytes(record.read_bytes()[:100])
    assert_refused(tapeout("report", study.path), str(record))


def test_output_folder_that_cannot_be_written_is_one_line(
    write_tiny: WriteTiny, tapeout: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tiny(tmp_path)
    assert_refused(tapeout("run", path, "--out", path), "tiny.toml")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refuse)
    told = "the folder cannot be made: Read-only file system; choose another with --out"
    assert_refused(tapeout("run", path, "--out", tmp_path / "locked"), told)


def test_init_schema_and_settings_from_nothing(
    tapeout: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    wrote = tapeout("init", "new", "--template", "quickstart", "--chip", "generic-int4",
                    "--recipe", "int4")  # fmt: skip
    assert wrote.code == 0 and "next: edit new/quickstart.toml" in wrote.out
    assert_refused(tapeout("init", "new", "--template", "quickstart"), "nothing is overwritten")
    assert_refused(tapeout("init", "--template", "pock"), '(did you mean "poc"?)')
    paths = json.loads(tapeout("init", "other", "--template", "poc", "--json").out)
    assert {Path(path).name for path in paths} == {
        "README.md", "smoke.toml", "early.toml", "full.toml", "scenario.schema.json",
    }  # fmt: skip
    assert tapeout("schema", "scenario", "--out", "s.json").code == 0
    assert json.loads(Path("s.json").read_text()) == json.loads(tapeout("schema", "scenario").out)
    assert_refused(tapeout("schema", "chips"), '(did you mean "chip"?)')
    for setting, told in (
        ("train.stepz=3", '(did you mean "steps"?)'),
        ("train.steps", "is not of the form key=value"),
        ("columns.candidat.recipe=int8", '(did you mean "candidate"?)'),
    ):
        assert_refused(tapeout("run", "new/quickstart.toml", "--set", setting), told)
    assert not Path("runs").exists()


def test_estimate_measures_once_and_makes_no_folder(
    write_tiny: WriteTiny, tapeout: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tapeout.scenarios.measurement.CACHE", tmp_path / "cache")
    path, out = write_tiny(tmp_path), tmp_path / "runs"
    estimate = "run", path, "--out", out, "--set", "model.width=8", "--estimate", "--json"
    # Measured here, not in another process, which would use the cache of the user.
    monkeypatch.setattr("tapeout.scenarios.estimate.ProcessPoolExecutor", Here)
    first, again = tapeout(*estimate), tapeout(*estimate)
    told = json.loads(first.out)
    assert (told["runs"], told["steps"], told["measured"]) == (2, 10, [2, 2])
    # 8 examples of 4 tokens, width 8, 16 hidden, one block, 16 pixels a patch, 10 classes; the
    # patches need no gradient. Forward and backward are three products but for the embedding's two.
    block = 32 * (8 * 24 + 8 * 8 + 2 * 8 * 16) + 2 * 8 * 2 * 4 * 4 * 4
    step = 3 * (block + 8 * 8 * 10) + 2 * 32 * 16 * 8
    assert told["macs"] == 10 * step
    assert told["cpu_seconds"] > 0 and told["disk_bytes"] > 1000
    assert "measuring" in first.err and "measuring" not in again.err
    assert json.loads(again.out) == told
    assert not out.exists()


class Here:
    """As much of an executor as the estimate needs, in this process."""

    def __init__(self, *_: object) -> None: ...

    def __enter__(self) -> "Here":
        return self

    def __exit__(self, *_: object) -> None: ...

    def submit(self, call: Callable[..., Any], *arguments: object) -> "Future[Any]":
        done: Future[Any] = Future()
        done.set_result(call(*arguments))
        return done


def test_wrong_option_is_told_with_the_usage(tapeout: Command) -> None:
    ended = tapeout("run", "quickstart", "--job", "2")
    assert ended.code == 2 and "No such option" in ended.err and "Traceback" not in ended.err


def test_chips_and_formats_list_and_describe(tapeout: Command) -> None:
    every = [*list_formats(), *list_block_formats()]
    for command, names in (("chips", list_chips()), ("formats", every)):
        listed = tapeout(command)
        rows: list[dict[str, Any]] = json.loads(tapeout(command, "--json").out)
        assert [row["name"] for row in rows] == names
        assert listed.code == 0 and all(name in listed.out for name in names)
    h100 = tapeout("chips", "nvidia-h100")
    assert h100.code == 0 and "wgmma" in h100.out and "ASSUMPTIONS" in h100.out
    assert json.loads(tapeout("chips", "nvidia-h100", "--json").out)["name"] == "nvidia-h100"
    e4m3 = json.loads(tapeout("formats", "e4m3", "--json").out)
    assert (e4m3["bits"], e4m3["largest"], e4m3["min_subnormal"]) == (8, 448.0, 2.0**-9)
    assert "448" in tapeout("formats", "e4m3").out
    for name in every:
        shown = json.loads(tapeout("formats", name, "--json").out)
        assert shown["bits"] == get_format(name).bits


def test_run_prints_the_verdicts_and_report_repeats_them(
    write_tiny: WriteTiny, tapeout: Command, tmp_path: Path
) -> None:
    path, out = write_tiny(tmp_path), tmp_path / "runs"
    ended = tapeout("run", path, "--out", out, "--jobs", "2")
    assert ended.code == 0
    assert "REFERENCE" in ended.out and "int4" in ended.out
    page = Path(ended.out.split("report: ")[1].replace("\n", ""))
    assert page.read_text().lstrip().lower().startswith("<!doctype html>")
    assert "2 of 2 runs" in ended.err and "\x1b" not in ended.err
    again = tapeout("run", path, "--out", out, "--json")
    told = json.loads(again.out)
    assert told["failed"] == [] and Path(told["report"]) == page
    assert [row["column"] for row in told["verdicts"]] == ["ieee", "int4"]
    repeated = tapeout("report", page.parent, "--json")
    assert json.loads(repeated.out)[0]["verdicts"] == told["verdicts"]
    speaks_against = told["verdicts"][1]["verdict"] != "STABLE"
    assert tapeout("report", page.parent, "--check").code == int(speaks_against)


def test_interrupted_run_says_so_and_continues(write_tiny: WriteTiny, tmp_path: Path) -> None:
    changes = (("steps = 5", "steps = 4000"), ("checkpoint_every = 2", "checkpoint_every = 10"))
    path, out = write_tiny(tmp_path, *changes), tmp_path / "runs"
    command = [sys.executable, "-m", "tapeout", "run", str(path), "--out", str(out), "--jobs", "1"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts background jobs with SIGINT ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 240
    while not list(out.rglob("step-*.safetensors")) and time.monotonic() < deadline:
        assert process.poll() is None, process.stderr and process.stderr.read()
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 130
    assert "interrupted: the same command continues" in err and "Traceback" not in err
    assert not list(out.rglob("result.json")) and list(out.rglob("step-*.safetensors"))


def test_help_answers_at_once_and_shows_examples() -> None:
    code = "import sys, runpy; sys.argv = ['tapeout', 'run', '--help']\n"
    code += "try: runpy.run_module('tapeout', run_name='__main__')\n"
    code += "except SystemExit: print('loaded', sorted({'torch', 'numba'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "tapeout run quickstart" in done.stdout
    assert "loaded []" in done.stdout


@pytest.mark.parametrize("command", ["init", "run", "report", "schema", "chips", "formats"])
def test_help_of_every_command_has_examples_and_names_real_scenarios(
    tapeout: Command, command: str
) -> None:
    ended = tapeout(command, "--help")
    assert ended.code == 0 and f"  tapeout {command} " in ended.out and "--json" in ended.out
    if command == "run":
        assert all(name in ended.out for name in list_scenarios())
