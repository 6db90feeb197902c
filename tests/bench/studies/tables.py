"""The tables of docs/optimizers.md, as Markdown, from the rows of the results."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf
from statistics import median

from .comparison import Interval, difference, interval, verdict
from .contenders import CONTENDERS, Contender, Setting
from .plan import NARROW, NARROW_CONTENDERS, chosen, final_jobs
from .results import Results
from .spectra import STORAGES, packed_parameters, spectra
from .tasks import TASKS, Task, build

Table = tuple[Sequence[str], list[Sequence[str]]]


@dataclass(frozen=True)
class Claim:
    """That `ours` − `theirs`, in points, lies above `low`."""

    text: str
    ours: str
    theirs: str
    low: float


CLAIMS = (
    Claim("CQ+EF at most 0.5 points below float32", "shampoo cq_ef", "shampoo float32", -0.5),
    Claim("CQ+EF above VQ", "shampoo cq_ef", "shampoo vq", 0.0),
    Claim("CQ above VQ", "shampoo cq", "shampoo vq", 0.0),
    Claim("CQ+EF above CQ", "shampoo cq_ef", "shampoo cq", 0.0),
    Claim("float32 Shampoo above AdamW", "shampoo float32", "adamw", 0.0),
    Claim("LMD at most 1 point below AdamW", "lmd", "adamw", -1.0),
)


def points(
    task: Task, contender: Contender, results: Results, arithmetic: str = "float32"
) -> dict[int, float]:
    """Points of the test part by seed, of the fresh seeds that have been run."""
    rows = [results.get(job) for job in final_jobs(task, contender, results, arithmetic)]
    return {row["seed"]: _finite(task, row) for row in rows if row is not None}


def _finite(task: Task, row: dict[str, float]) -> float:
    return -inf if task.metric == "loss" and row["loss"] is None else task.points(row)


def grids(results: Results) -> Table:
    """What each grid was, what it chose, and what that reached on the test part."""
    rows: list[Sequence[str]] = []
    for task in TASKS.values():
        for contender in CONTENDERS.values():
            choice = chosen(task, contender, results)
            if choice is None:
                continue
            edge = f" (edge: {', '.join(choice.at_edge)})" if choice.at_edge else ""
            found = list(points(task, contender, results).values())
            rows.append((
                task.name, contender.name, grid_text(contender, task),
                setting_text(choice.setting) + edge,
                f"{choice.loss:.4f}",
                reached(task, interval(found)) if found else "not run",
                str(len(found)),
            ))  # fmt: skip
    heads = ("task", "optimizer", "grid", "chosen", "loss on folds", "test, 95 %", "seeds")
    return heads, rows


def claims(results: Results) -> Table:
    """Each claim on each task: the paired difference in points, and whether it holds."""
    rows: list[Sequence[str]] = []
    for claim in CLAIMS:
        for task in TASKS.values():
            ours, theirs = (
                points(task, CONTENDERS[name], results) for name in (claim.ours, claim.theirs)
            )
            found = difference(ours, theirs)
            if found is not None:
                holds = verdict(found, claim.low)
                rows.append((claim.text, task.name, str(found), str(found.n), holds))
    return ("claim", "task", "difference, points", "seeds", "holds"), rows


def narrow(results: Results) -> Table:
    """What narrow forward products cost each optimizer, against its own float32 runs."""
    rows: list[Sequence[str]] = []
    for name, arithmetic, _ in NARROW:
        task, lost = TASKS[name], dict[str, dict[int, float]]()
        for optimizer in NARROW_CONTENDERS:
            contender = CONTENDERS[optimizer]
            plain = points(task, contender, results)
            there = points(task, contender, results, arithmetic)
            shared = sorted(plain.keys() & there.keys())
            if not shared:
                continue
            lost[optimizer] = {seed: there[seed] - plain[seed] for seed in shared}
            rows.append((
                name, arithmetic, optimizer,
                reached(task, interval([plain[seed] for seed in shared])),
                reached(task, interval([there[seed] for seed in shared])),
                str(interval(list(lost[optimizer].values()))), str(len(shared)), "",
            ))  # fmt: skip
        for other in ("adamw", "madam"):
            found = difference(lost.get("lmd", {}), lost.get(other, {}))
            if found is not None:
                rows.append((
                    name, arithmetic, f"lmd − {other}", "", "", str(found), str(found.n),
                    verdict(found, 0.0),
                ))  # fmt: skip
    heads = (
        "task",
        "forward",
        "optimizer",
        "float32",
        "narrow",
        "change, points",
        "seeds",
        "holds",
    )
    return heads, rows


def packed() -> Table:
    """How many weights a packed Shampoo really packs."""
    rows: list[Sequence[str]] = []
    for task in TASKS.values():
        model = build(task, 0)
        contender = CONTENDERS["shampoo cq_ef"]
        optimizer = contender.build(task, contender.settings(task)[0], model, 0)
        found = packed_parameters(model, optimizer)
        shares = (f"{100 * n / found.parameters:.0f} %" for n in (found.both, found.one))
        rows.append((
            task.name, f"{found.parameters:,}", *shares, ", ".join(map(str, found.orders)),
        ))  # fmt: skip
    return ("task", "parameters", "both sides in codes", "one side", "orders in codes"), rows


def sides_table(task: Task, setting: Setting) -> Table:
    """The sides of the task's float32 Shampoo after training; NRE / AE in degrees by storage."""
    found = list(spectra(task, setting))
    rows: list[Sequence[str]] = [
        (
            side.parameter,
            str(side.order),
            f"{side.largest:.1e}",
            f"{100 * side.above:.0f} %",
            *(f"{side.nre[s]:.3f} / {side.ae[s]:.1f}" for s in STORAGES),
        )
        for side in found
    ]
    middle = [
        f"{median(side.nre[s] for side in found):.3f} / {median(side.ae[s] for side in found):.1f}"
        for s in STORAGES
    ]
    rows.append((f"median of {len(found)}", "", "", "", *middle))
    heads = ("parameter", "order", "λmax", "above λmax·ε", *(f"{s} NRE / AE" for s in STORAGES))
    return heads, rows


def grid_text(contender: Contender, task: Task) -> str:
    grid = contender.grid(task)
    return "; ".join(f"{name} {', '.join(f'{v:g}' for v in vs)}" for name, vs in grid.items())


def setting_text(setting: Setting) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in setting.items())


def reached(task: Task, found: Interval) -> str:
    """A mean with half its interval."""
    half = found.high - found.mean
    if task.metric == "accuracy":
        return f"{found.mean:.2f} ± {half:.2f} %"
    return f"{-found.mean / 100:.4f} ± {half / 100:.4f} nats"


def markdown(table: Table) -> str:
    """The lines of a Markdown table."""
    heads, rows = table
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def all_tables(results: Results) -> Iterator[tuple[str, Table]]:
    """Every table with its name."""
    yield "Tuned and tested", grids(results)
    yield "Claims", claims(results)
    yield "Narrow forward products", narrow(results)
    yield "Weights that are packed", packed()
