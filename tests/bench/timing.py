"""Two things timed in turns: machines are noisy, a ratio within one process is not."""

import statistics
import time
from collections.abc import Callable
from typing import Any

PAIRS = 9


def ratio(
    ours: Callable[[], Any], floor: Callable[[], Any], pairs: int | None = None
) -> tuple[float, float]:
    """Median of time(ours) / time(floor) over pairs in turn, and the median time of ours."""
    ours()
    floor()
    times = [(seconds(ours), seconds(floor)) for _ in range(pairs or PAIRS)]
    return statistics.median(a / b for a, b in times), statistics.median(a for a, _ in times)


def seconds(run: Callable[[], Any]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
