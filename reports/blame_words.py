"""What blame found, in sentences."""

from .blame_record import BlameRecord, BlameRow
from .wording import MINUS, NARROW, plural


def percent(value: float | None) -> str:
    """A share of the gap, which may lie outside of 0 and 1: `97 %`, `−12 %`."""
    return "–" if value is None else f"{100 * value:.0f}{NARROW}%".replace("-", MINUS)


def percent_range(interval: tuple[float, float] | None) -> str:
    """`88 % to 103 %`, or nothing."""
    return "" if interval is None else f"{percent(interval[0])} to {percent(interval[1])}"


def conclude(blame: BlameRecord) -> str:
    """One sentence that names the culprit, or says why there is none."""
    parts = [row for row in blame.rows if row.kind != "rounding"]
    gap = f"The training loss is {blame.gap:+.3g} above float32’s".replace("-", MINUS)
    gap += f" over steps {blame.first} to {blame.steps} ({plural(len(blame.seeds), 'seed')}"
    gap += f", {blame.diverged} diverged)" if blame.diverged else ")"
    if blame.verdict == "undecided" or not parts:
        return (
            f"{gap}: with these seeds and steps that is not told apart from no gap at all, and "
            "shares of it mean little; use more steps or more seeds"
        )
    top = parts[0]
    if blame.verdict == "guilty":
        return f"{gap}. To blame: {_name(top)}; alone it causes {percent(top.alone)} of the gap"
    if blame.verdict == "together":
        return (
            f"{gap}. {_name(top).capitalize()}, yet alone it causes only {percent(top.alone)}: it "
            "acts together with other parts"
        )
    loudest = max(parts, key=lambda row: row.alone if row.alone is not None else float("-inf"))
    if blame.verdict == "redundant":
        return (
            f"{gap}. No single part takes it away ({_name(top)}), but {loudest.title} alone "
            f"causes {percent(loudest.alone)} of it: several parts are each enough"
        )
    return (
        f"{gap}. No single part takes it away ({_name(top)}), and none alone causes much of it "
        f"({loudest.title}: {percent(loudest.alone)}): it comes of many parts together"
    )


def _name(row: BlameRow) -> str:
    around = percent_range(row.explained_interval)
    interval = f", 90{NARROW}% interval {around}" if around else ""
    return f"{row.title}, which explains {percent(row.explained)}{interval}"
