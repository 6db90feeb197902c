"""The JSON files of a study folder as frozen rows, and one sentence about each that is not."""

import json
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ..formats.errors import InputError


class Record(BaseModel):
    """A frozen row of a file; keys that a later writer adds are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Column(Record):
    """One machine of the study: a chip, a recipe and what the scenario changed in it.

    axes: where the column stands in a product of overrides, such as its rounding and its order.
    """

    name: str = Field(min_length=1)
    chip: str
    recipe: str
    override: dict[str, Any] = {}
    axes: dict[str, str | int | float | bool] = {}


class RunEntry(Record):
    """Where one run stands: the study's optimizer on one of its columns from one seed.

    lr_factor: on the optimizer's learning rate; verdicts rest on the runs where it is 1.
    """

    folder: str
    column: str
    optimizer: str
    seed: int
    lr_factor: float = Field(default=1.0, gt=0)


class StudyRecord(Record):
    """study.json: what was compared with what, and how it was run."""

    schema_version: Literal[1] = Field(alias="schema")
    name: str
    summary: str = ""
    reference: str
    metric: str
    tolerance: float = Field(ge=0)
    columns: tuple[Column, ...]
    optimizers: tuple[dict[str, Any], ...]
    seeds: tuple[int, ...]
    runs: tuple[RunEntry, ...]
    thresholds: dict[str, float | str | None] = {}
    command: str = ""
    versions: dict[str, str] = {}
    cpu: str = ""
    git: str = ""
    scenario_toml: str = ""


class RunRecord(Record):
    """run.json: the frozen inputs of one run, as far as a report needs them.

    chip: the table of the chip's file as it was used.
    """

    schema_version: Literal[1] = Field(alias="schema")
    column: str
    optimizer: dict[str, Any]
    seed: int
    assumed: tuple[str, ...] = ()
    chip: dict[str, Any] | None = None


class MemoryRecord(Record):
    """The bytes that the tensors of one role occupied, and would occupy in float32."""

    bytes: int = Field(ge=0)
    float32_bytes: int = Field(ge=0)


class TimingRecord(Record):
    """timing.json: how long the emulation took where it ran, which is not the chip's time."""

    seconds: float = Field(ge=0)
    steps: int | None = None


class ResultRecord(Record):
    """result.json: how a run ended; `final` holds null where a number was not finite.

    memory: bytes by role; empty where they were not counted.
    gemm_macs: multiply-adds of matrix products.
    coverage: calls of each operation by how it was carried out; null where they were not counted.
    files: the SHA-256 of each segment by its path in the run folder.
    """

    schema_version: Literal[1] = Field(alias="schema")
    status: Literal["finished", "diverged"]
    step: int = Field(ge=0)
    reason: str = ""
    final: dict[str, float | None] = {}
    optimizer_state_bytes: int | None = None
    optimizer_paper_bytes: int | None = None
    coverage: dict[str, dict[str, int | None]] = {}
    files: dict[str, str] = {}
    memory: dict[str, MemoryRecord] = {}
    gemm_macs: int | None = None

    @field_validator("coverage", mode="before")
    @classmethod
    def _counted(cls, table: object) -> object:
        if not isinstance(table, dict):
            return table
        return {k: dict.fromkeys(v) if isinstance(v, list) else v for k, v in table.items()}


R = TypeVar("R", bound=Record)


def read_record(path: Path, model: type[R]) -> R:
    """The file at `path` as a `model`; NaN and infinities in it are read as null.

    Raises:
        InputError: the file is missing, unreadable, not JSON or not such a record.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"), parse_constant=lambda _: None)
        return model.model_validate(data)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except ValidationError as error:
        raise InputError(f"{path}: {_sentence(error)}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is damaged or not JSON: {error}") from None


def _sentence(error: ValidationError) -> str:
    """The first fault of a record: where it stands, its value and what was expected."""
    fault = error.errors()[0]
    where = " ".join(str(part) for part in fault["loc"])
    if not where:
        return "does not hold a JSON table"
    if fault["type"] == "missing":
        return f"{where} is missing"
    return f"{where} = {str(fault['input'])[:80]!r}: {fault['msg'][0].lower()}{fault['msg'][1:]}"
