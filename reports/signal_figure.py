"""What warned before each divergence, and how long before, on one line a run."""

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from .drawing import GRID, INK, MUTED, SERIES, VERDICTS, Figure, Spot, draw_svg
from .signals import SIGNALS, RunSignals, Warnings

WIDTH, ROW, FRAME, MOST = 560.0, 20.0, 70.0, 24
COLOURS = (1, 3, 4, 5, 6, 1, 3, 4)  # not the orange of the crosses
MARKERS = ("o", "s", "^", "v", "D", "P", "*", "h")


def draw_signals(warnings: Warnings) -> Figure | None:
    """A line for each diverged run: marks where signals fired, a cross at the onset."""
    if not warnings.runs:
        return None
    shown = sorted(warnings.runs, key=lambda run: run.lr_factor != 1)[:MOST]

    def paint(axes: Axes) -> list[Spot]:
        spots = []
        for height, run in enumerate(shown):
            axes.plot([0, run.onset], [height] * 2, color=GRID, linewidth=1.2)
            axes.plot([run.onset, run.end], [height] * 2, color=MUTED, linewidth=1.2, dashes=(1, 1))
            axes.plot(run.onset, height, "X", color=VERDICTS["UNSTABLE"], markersize=7, zorder=4)
            spots.append(Spot(run.onset, height, f"diverges from step {run.onset}"))
            for k, (name, step) in enumerate(run.fired.items()):
                if step is not None:
                    offset = height + 0.12 * (k % 3 - 1)
                    axes.plot(step, offset, MARKERS[k], color=SERIES[COLOURS[k]], markersize=5.5)
                    spots.append(Spot(step, offset, f"{name}, step {step}"))
        for k, signal in enumerate(SIGNALS):
            if any(run.fired.get(signal.name) is not None for run in shown):
                axes.plot([], [], MARKERS[k], color=SERIES[COLOURS[k]], label=signal.name)
        axes.plot([], [], "X", color=VERDICTS["UNSTABLE"], label="divergence begins")
        axes.legend(frameon=False, fontsize=9.5, loc="center left", bbox_to_anchor=(1.0, 0.5))
        axes.set_yticks(range(len(shown)), [name_run(run) for run in shown])
        axes.tick_params(axis="y", labelcolor=INK)
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.set_xlabel("step")
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        return spots

    title = "Signals before each divergence"
    if len(warnings.runs) > MOST:
        title += f", {MOST} of {len(warnings.runs)} runs"
    texts = [f"{name_run(run)}: {_told(run)}" for run in shown]
    alt = f"{title}. {'; '.join(texts)}."
    size = (WIDTH, FRAME + ROW * max(len(shown), 5))
    header = ("Run", "Divergence begins", "Stopped", *(signal.name for signal in SIGNALS))
    table = tuple(_row(run) for run in shown)
    return Figure(
        "signals", title, alt, draw_svg("signals", title, alt, size, paint), header, table
    )


def name_run(run: RunSignals) -> str:
    """`lmd · int4-nearest · seed 2`, with the factor on the learning rate unless it is 1."""
    rate = f" · × {run.lr_factor:g}" if run.lr_factor != 1 else ""
    return f"{run.optimizer} · {run.column} · seed {run.seed}{rate}"


def _row(run: RunSignals) -> tuple[str, ...]:
    steps = (run.fired.get(signal.name) for signal in SIGNALS)
    return (
        name_run(run),
        str(run.onset),
        str(run.end),
        *("–" if step is None else str(step) for step in steps),
    )


def _told(run: RunSignals) -> str:
    fired = [f"{name} at {step}" for name, step in run.fired.items() if step is not None]
    return f"{', '.join(fired) or 'no signal'}, diverges from {run.onset}"
