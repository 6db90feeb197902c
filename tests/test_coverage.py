"""Coverage: every operation of a run under how it was carried out, with its calls."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tapeout.reports import write_report
from tapeout.scenarios.execution import execute
from tapeout.scenarios.folder import TABLES
from tapeout.scenarios.study import open_study
from tapeout.simulator import emulate, load_chip, load_recipe
from tapeout.simulator.tracing import COLUMNS, COVERAGE, describe_columns
from tapeout.tests.test_reports_page import Page

IEEE, H100 = load_chip("ieee-float32"), load_chip("nvidia-h100")
FP32, FP8 = load_recipe("fp32"), load_recipe("fp8")


def coverage(run: Callable[[], Any], chip: Any = H100, recipe: Any = FP32, **options: Any) -> Any:
    with emulate(chip, recipe, **options) as trace:
        run()
    return {kind: calls for kind, calls in trace.coverage().items() if calls}


def test_each_kind_by_a_hand_count() -> None:
    x = torch.tensor([[1.0, 2.0]])
    assert coverage(lambda: (x + x) * x) == {"bit_exact": {"add": 1, "mul": 1}}
    assert coverage(lambda: x.exp().exp().tanh()) == {"rounded_once": {"exp": 2, "tanh": 1}}
    assert coverage(lambda: x.t().clone()) == {"moved": {"clone": 1, "t": 1}}
    assert coverage(lambda: x.exp(), IEEE) == {"native": {"exp": 1}}
    found = coverage(lambda: x @ x.mT)
    assert found["bit_exact"] == {"mm": 1} and found["moved"] == {"transpose": 1}
    assert found["matrix_unit"] == {"nvidia-h100, fma: float32 x float32": 1}


def test_what_stands_in_for_a_missing_unit_is_counted() -> None:
    layer = nn.Linear(32, 4, bias=False)
    found = coverage(lambda: layer(torch.ones(2, 32)), recipe=load_recipe("mxfp4"), model=layer)
    ((sentence, calls),) = found["substituted"].items()
    assert sentence.startswith("nvidia-h100 has no unit for ") and calls == 1


def test_what_works_on_other_dtypes_is_named_with_them() -> None:
    x = torch.ones(3, dtype=torch.float64)
    assert coverage(lambda: x + x.sqrt()) == {"native": {"add (float64)": 1, "sqrt (float64)": 1}}


def test_a_composition_is_its_steps() -> None:
    found = coverage(lambda: torch.softmax(torch.ones(2, 3), -1))
    assert found["bit_exact"] == {"amax": 1, "div": 1, "sub": 1, "sum": 1}
    assert found["rounded_once"] == {"exp": 1}


def test_exempt_modules_are_counted_by_name_and_direction() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    recipe = load_recipe("fp8", {"exempt_modules": ["1"]})
    x = torch.ones(3, 4)
    found = coverage(lambda: model(x).sum().backward(), recipe=recipe, model=model)
    assert found["exempt"] == {f"1, {gemm} (float32)": 1 for gemm in ("dgrad", "fprop", "wgrad")}


def test_counting_goes_on_in_steps_that_are_not_sampled() -> None:
    w = nn.Parameter(torch.ones(2))
    opt = torch.optim.SGD([w], lr=0.1)

    def run() -> None:
        for _ in range(3):
            w.grad = torch.ones(2)
            opt.step()
            w.sqrt()

    assert coverage(run, sample_every=5)["bit_exact"]["sqrt"] == 3


def test_every_kind_has_a_meaning_and_no_other_is_noted() -> None:
    with emulate(IEEE, FP32) as trace:
        assert list(trace.coverage()) == list(COVERAGE)
        with pytest.raises(KeyError):
            trace.cover("guessed", "add")


def test_the_documentation_lists_every_column_and_kind() -> None:
    text = (Path(__file__).parent.parent / "docs" / "trace.md").read_text(encoding="utf-8")
    assert describe_columns() in text
    assert "".join(f"- `{kind}`: {meaning}\n" for kind, meaning in COVERAGE.items()) in text


def test_segments_say_what_their_columns_mean() -> None:
    fields = {field.name: field.metadata for field in TABLES["trace"]}
    assert list(fields) == [column.name for column in COLUMNS]
    assert fields["swamped"][b"meaning"].startswith(b"of these, without which the unit")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, write_tiny: Any) -> tuple[Page, Any]:
    """The page and the twin of one emulated run with an exempt module."""
    folder = tmp_path_factory.mktemp("coverage")
    machine = 'chip = "nvidia-h100"\nrecipe = "fp8"\noverride = {exempt_modules = ["head"]}'
    change = ('chip = "generic-int4"\nrecipe = "int4"', machine)
    study = open_study(write_tiny(folder, change, ("steps = 5", "steps = 2")), folder)
    execute(study.runs[1], study.folders[1])
    written = write_report(study.path)
    page = Page(written.html.read_text(encoding="utf-8"))
    return page, json.loads(written.json.read_text(encoding="utf-8"))


def test_the_report_says_what_was_emulated(report: tuple[Page, Any]) -> None:
    page, twin = report
    assert ("h2", "What was emulated") in page.texts
    words = " ".join(text for _, text in page.texts)
    assert "computed in float64 and rounded once to the vector unit’s format" in " ".join(
        words.split()
    )
    assert twin["coverage_kinds"] == COVERAGE
    found = twin["coverage"]["int4"]
    assert found["bit_exact"]["addmm"] > 0 and found["rounded_once"]["exp"] > 0
    assert found["exempt"]["head, fprop (float32)"] == 2
    for kind, meaning in COVERAGE.items():
        assert meaning in words, kind
    for name in ("addmm", "exp", "head, wgrad (float32)"):
        assert ("code", name) in page.texts


def test_the_report_shows_output_noise_swamping_and_ranges(report: tuple[Page, Any]) -> None:
    page, twin = report
    rows = {(row["role"], row["format"]): row for row in twin["trace"]}
    output = rows["output", "e8m13"]
    assert 10 < output["sqnr_db"] < output["sum_sqnr_db"] < 100
    assert 0 <= output["swamped"] < 0.5
    noisy = [row for row in twin["modules"] if row["column"] == "int4"]
    assert 0 < len(noisy) <= 8 and all(row["made"] == 0 for row in noisy)
    assert [row["sqnr_db"] for row in noisy] == sorted(row["sqnr_db"] for row in noisy)
    assert noisy[0]["sqnr_db"] < 40 and "head" not in {row["module"] for row in noisy[:4]}
    assert ("h3", "The noisiest matrix products") in page.texts
    weight = rows["weight", "float8_e4m3fn"]
    assert weight["smallest"] < weight["largest"] < 10
    assert sum(count for _, count in weight["exponents"]) <= weight["values"]


def test_a_folder_without_counts_is_still_read(tmp_path: Path, report: Any) -> None:
    from tapeout.tests.test_reports_folders import write_study

    study = write_study(tmp_path / "study", {("adamw", "ieee-float32"): [0.9]})
    twin = json.loads(write_report(study).json.read_text(encoding="utf-8"))
    assert twin["coverage"]["ieee-float32"]["bit_exact"] == {"aten.mm": None}
