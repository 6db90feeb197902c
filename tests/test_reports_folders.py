"""Reading study folders: everything intact is used, everything else is listed by name.

The other tests of reports take `write_study` from here.
"""

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tapeout.formats.errors import InputError
from tapeout.reports.drawing import slug
from tapeout.reports.study import read_study

COLUMNS: list[dict[str, Any]] = [
    {"name": "ieee-float32", "chip": "ieee-float32", "recipe": "fp32", "override": {}},
    {"name": "h100-fp8", "chip": "nvidia-h100", "recipe": "fp8", "override": {}},
    {
        "name": "int4-nearest",
        "chip": "generic-int4",
        "recipe": "int4",
        "override": {"rounding": "nearest_even"},
    },
    {"name": "int4-stochastic", "chip": "generic-int4", "recipe": "int4", "override": {}},
]
OPTIMIZERS = ["adamw", "lmd", "shampoo4bit"]
FORMATS = {"fp32": "float32", "fp8": "float8_e4m3fn", "int4": "int4"}
STEPS, SEGMENT = 100, 25

Finals = Mapping[tuple[str, str], Sequence[float | None]]


def write_study(root: Path, finals: Finals, metric: str = "test_accuracy", **facts: Any) -> Path:
    """A study folder as a scenario writes it; each final value is one seed, None a divergence."""
    optimizers = list(dict.fromkeys(optimizer for optimizer, _ in finals))
    columns = [c for c in COLUMNS if c["name"] in {column for _, column in finals}]
    runs: list[dict[str, Any]] = [
        {"folder": f"{c}--{slug(o)}--s{seed}--0a1b2c3d", "column": c, "optimizer": o, "seed": seed}
        for (o, c), values in finals.items()
        for seed in range(len(values))
    ]
    root.mkdir(parents=True)
    study = {
        "schema": 1,
        "name": "digits-study",
        "summary": "A small Vision Transformer learns handwritten digits.",
        "reference": "ieee-float32",
        "metric": metric,
        "tolerance": 0.01,
        "columns": columns,
        "optimizers": [{"name": name, "lr": 0.001} for name in optimizers],
        "seeds": list(range(max(len(v) for v in finals.values()))),
        "runs": runs,
        "command": "tapeout run quickstart",
        "versions": {"tapeout": "0.1.0", "python": "3.11.9", "torch": "2.13.0"},
        "cpu": "Example CPU",
        "git": "0123456789ab",
        "scenario_toml": 'name = "digits-study"\ntolerance = 0.01\n',
    }
    (root / "study.json").write_text(json.dumps(study | facts))
    for run in runs:
        final = finals[run["optimizer"], run["column"]][run["seed"]]
        write_run(root, run, final, metric)
    return root


def write_run(root: Path, run: Mapping[str, Any], final: float | None, metric: str) -> None:
    """One run folder, with curves that fall towards the final value or blow up."""
    folder = root / run["folder"]
    column = next(c for c in COLUMNS if c["name"] == run["column"])
    length = STEPS if final is not None else STEPS // 3 + 20 * run["seed"]
    rng = np.random.default_rng([run["seed"], len(run["column"]), len(run["optimizer"])])
    steps = np.arange(1, length + 1)
    level = 0.3 if final is None else max(1.02 - final, 0.02) if "accuracy" in metric else final
    loss = level + 2.2 * np.exp(-steps / 25) + 0.15 * rng.exponential(size=length) * level
    if final is None:
        loss[-12:] *= np.geomspace(1, 1e4, 12)
        loss[-1] = np.nan
    for end in [*range(SEGMENT, length, SEGMENT), length]:
        part = slice((end - 1) // SEGMENT * SEGMENT, end)
        write_segment(
            folder / "metrics" / f"step-{end:06d}.parquet",
            {"step": steps[part], "loss": loss[part], "lr": loss[part], "grad_norm": loss[part]},
        )
        reached = (final or 0.1) * (1 - 0.8 * float(np.exp(-end / 40)))
        now = {"step": [end], "test_loss": [loss[part][0]], "test_accuracy": [reached]}
        write_segment(folder / "evaluations" / f"step-{end:06d}.parquet", now)
        rows = trace_rows(end, FORMATS[column["recipe"]], column["override"])
        write_segment(folder / "trace" / f"step-{end:06d}.parquet", rows)
    assumed = [] if column["recipe"] == "fp32" else [f"{column['chip']}: accumulator width"]
    inputs = {"schema": 1, "column": run["column"], "seed": run["seed"], "assumed": assumed}
    (folder / "run.json").write_text(json.dumps(inputs | {"optimizer": {"name": run["optimizer"]}}))
    (folder / "timing.json").write_text('{"seconds": 1.5}')
    files = {
        str(p.relative_to(folder)): sha256(p.read_bytes()).hexdigest()
        for p in folder.rglob("*.parquet")
    }
    result = {
        "schema": 1,
        "status": "diverged" if final is None else "finished",
        "step": length,
        "reason": "the loss is nan" if final is None else "",
        "final": {"test_accuracy": None, "test_loss": None, "train_loss": None, metric: final},
        "optimizer_state_bytes": {"adamw": 205000, "lmd": 102500}.get(run["optimizer"], 61234),
        "coverage": {
            "bit_exact": ["aten.mm"],
            "rounded_once": ["aten.exp"],
            "moved": ["aten.t"],
            "native": [],
        },
        "files": files,
    }
    (folder / "result.json").write_text(json.dumps(result))


def trace_rows(step: int, name: str, override: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Trace counters of two modules that depend on the format and, for int4, on the rounding."""
    under = {"float32": 0, "float8_e4m3fn": 12}.get(name, 310 if override else 180)
    noise = {"float32": 0.0, "float8_e4m3fn": 1.2}.get(name, 40.0)
    table: dict[str, list[Any]] = {}
    for module in ("blocks.0.mlp.up", "blocks.0.attention"):
        for operand in ("weight", "activation", "gradient", "update"):
            update = operand == "update"
            scale = {"weight": 0.1, "activation": 0.6}.get(operand, 1.0)
            row = {
                "step": step,
                "module": module,
                "op": "step" if update else "mm",
                "gemm": "optimizer" if update else "fprop",
                "operand": operand,
                "format": "float32" if update else name,
                "values": 1000,
                "underflow": 0 if update else int(scale * under),
                "saturated": 0 if update else int(scale * noise / 4),
                "overflow": 0,
                "nan": 0,
                "signal": 0.0 if update else 1000.0,
                "noise": 0.0 if update else scale * noise,
                "macs": 0,
                "stalled": under // 2 if update else 0,
                "calls": 1,
            }
            for key, value in row.items():
                table.setdefault(key, []).append(value)
    return table


def write_segment(path: Path, columns: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(dict(columns)), path, write_page_checksum=True)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Two optimizers on two columns from two seeds, one run diverged."""
    finals: Finals = {
        ("adamw", "ieee-float32"): [0.93, 0.94],
        ("adamw", "int4-nearest"): [0.92, None],
        ("lmd", "ieee-float32"): [0.92, 0.95],
        ("lmd", "int4-nearest"): [0.91, 0.94],
    }
    return write_study(tmp_path / "study", finals)


RUN = "int4-nearest--lmd--s0--0a1b2c3d"


def left_out(study: Path) -> dict[str, str]:
    return {omission.file: omission.reason for omission in read_study(study).left_out}


def test_an_intact_study_is_read_whole(study: Path) -> None:
    found = read_study(study)
    assert found.left_out == ()
    assert [run.status for run in found.runs].count("diverged") == 1
    assert [run.status for run in found.runs].count("finished") == 7
    run = found.select("lmd", "int4-nearest")[1]
    assert run.final("test_accuracy") == 0.94
    assert run.series["metrics"]["step"].to_pylist() == list(range(1, STEPS + 1))
    assert run.assumed == ("generic-int4: accumulator width",)


def test_a_result_without_its_own_hashes_is_still_read(study: Path) -> None:
    path = study / RUN / "result.json"
    result = json.loads(path.read_text())
    del result["files"]
    path.write_text(json.dumps(result))
    assert left_out(study) == {}


@pytest.mark.parametrize("kind", ["metrics", "evaluations", "trace"])
@pytest.mark.parametrize("hashes", [True, False])
def test_a_truncated_segment_is_left_out_by_name(study: Path, kind: str, hashes: bool) -> None:
    path = study / RUN / kind / "step-000050.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    if not hashes:
        (study / RUN / "result.json").unlink()
    assert "damaged" in left_out(study)[f"{RUN}/{kind}/step-000050.parquet"]
    steps = read_study(study).select("lmd", "int4-nearest")[0].series[kind]["step"].to_pylist()
    assert steps and not {*range(26, 51)} & {*steps}


def test_a_flipped_bit_in_a_page_fails_its_checksum(study: Path) -> None:
    path = study / RUN / "metrics" / "step-000050.parquet"
    (study / RUN / "result.json").unlink()
    data = bytearray(path.read_bytes())
    chunk = pq.read_metadata(path).row_group(0).column(1)
    data[chunk.dictionary_page_offset + chunk.total_compressed_size - 3] ^= 1
    path.write_bytes(data)
    assert "damaged" in left_out(study)[f"{RUN}/metrics/step-000050.parquet"]


def test_no_flipped_byte_of_a_segment_ends_in_a_traceback_or_goes_unseen(study: Path) -> None:
    path = study / RUN / "trace" / "step-000050.parquet"
    whole = path.read_bytes()
    for place in range(0, len(whole), 301):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        assert list(left_out(study)) == [f"{RUN}/trace/step-000050.parquet"], place


def test_a_missing_segment_is_missed(study: Path) -> None:
    (study / RUN / "trace" / "step-000075.parquet").unlink()
    assert left_out(study) == {f"{RUN}/trace/step-000075.parquet": "no such file"}


def test_a_segment_without_a_column_is_named_with_it(study: Path) -> None:
    (study / RUN / "result.json").unlink()
    write_segment(study / RUN / "metrics" / "step-000050.parquet", {"step": [30]})
    reason = left_out(study)[f"{RUN}/metrics/step-000050.parquet"]
    assert reason == "lacks the column loss"


def test_foreign_files_are_listed_and_ignored(study: Path) -> None:
    (study / "notes.txt").write_text("mine")
    (study / RUN / "core").write_text("dump")
    (study / RUN / "metrics" / "step-000050.parquet.bak").write_text("old")
    names = {"notes.txt", f"{RUN}/core", f"{RUN}/metrics/step-000050.parquet.bak"}
    found = left_out(study)
    assert found.keys() == names
    assert all(reason.endswith("ignored") for reason in found.values())


def test_a_missing_run_folder_is_a_missing_run(study: Path) -> None:
    (study / RUN).rename(study.parent / "elsewhere")
    assert left_out(study) == {RUN: "there is no such run folder"}
    assert read_study(study).select("lmd", "int4-nearest")[0].status == "missing"


def test_a_run_without_a_result_is_unfinished_and_its_curves_are_kept(study: Path) -> None:
    (study / RUN / "result.json").unlink()
    run = read_study(study).select("lmd", "int4-nearest")[0]
    assert (run.status, run.step, run.final("test_accuracy")) == ("unfinished", STEPS, None)
    assert left_out(study) == {}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "damaged or not JSON"),
        ("[]", "does not hold a JSON table"),
        ('{"schema": 2, "status": "finished", "step": 1}', "schema"),
        ('{"schema": 1, "status": "done", "step": 1}', "status"),
        ('{"schema": 1, "status": "finished"}', "step is missing"),
        ('{"schema": 1, "status": "finished", "step": 1}', "no finite final test_accuracy"),
        (
            '{"schema": 1, "status": "finished", "step": 1, "final": {"test_accuracy": NaN}}',
            "no finite final test_accuracy",
        ),
    ],
)
def test_a_result_that_cannot_be_believed_makes_the_run_unreadable(
    study: Path, text: str, told: str
) -> None:
    (study / RUN / "result.json").write_text(text)
    assert told in left_out(study)[f"{RUN}/result.json"]
    assert read_study(study).select("lmd", "int4-nearest")[0].status == "unreadable"


def test_a_folder_that_holds_another_run_is_not_used(study: Path) -> None:
    other = study / "ieee-float32--lmd--s0--0a1b2c3d" / "run.json"
    (study / RUN / "run.json").write_text(other.read_text())
    assert "another run" in left_out(study)[f"{RUN}/run.json"]
    assert read_study(study).select("lmd", "int4-nearest")[0].status == "unreadable"


def test_lost_inputs_cost_the_assumptions_only(study: Path) -> None:
    (study / RUN / "run.json").write_bytes(b"\xff\xfe")
    assert "assumed values are unknown" in left_out(study)[f"{RUN}/run.json"]
    run = read_study(study).select("lmd", "int4-nearest")[0]
    assert (run.status, run.assumed) == ("finished", ())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"reference": "ieee-float64"}, 'reference = "ieee-float64" is not one of ieee-float32, '),
        ({"schema": 7}, "schema"),
        ({"tolerance": -1}, "tolerance"),
        (
            {"runs": [{"folder": "../x", "column": "int4-nearest", "optimizer": "lmd", "seed": 0}]},
            '"../x" is not a run folder',
        ),
        (
            {"runs": [{"folder": "x", "column": "tpu", "optimizer": "lmd", "seed": 0}]},
            "names a column or optimizer that is not listed",
        ),
        ({"optimizers": [{"name": "lmd"}, {"name": "lmd"}]}, '"lmd" stands twice'),
        ({"optimizers": [{"lr": 1}]}, "an optimizer has no name"),
    ],
)
def test_a_study_that_contradicts_itself_is_refused(
    study: Path, change: dict[str, Any], told: str
) -> None:
    path = study / "study.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError) as caught:
        read_study(study)
    assert str(path) in str(caught.value) and told in str(caught.value)


def test_what_is_no_study_is_refused_with_the_remedy(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(InputError, match=r"holds no study\.json; give the study folder"):
            read_study(path)
    (tmp_path / "study.json").write_text('{"schema": 1, ')
    with pytest.raises(InputError, match=r"study\.json: is damaged or not JSON"):
        read_study(tmp_path)
