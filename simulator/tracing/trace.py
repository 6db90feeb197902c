"""What happened inside an emulated run: counters by step, module, operation and role."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from ...formats.errors import InputError
from ..phase import Phase
from ..roles import Product
from .counts import Conversion, Counts, Key, count_rounding
from .coverage import Coverage
from .footprint import Footprint
from .products import Multiplied, examine
from .recorder import Recorder
from .watch import Watch


class Keeper(Protocol):
    """A part of an emulation with a state of its own: dictionaries of tensors and scalars."""

    def state_dict(self) -> dict[str, Any]:
        """What the part needs in order to go on."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""


class Trace:
    """Counters of an emulation, how its operations were carried out, and its random streams.

    `macs` are the multiply-adds of all matrix products since the beginning, counted in every step.

    Counted in every `sample_every`-th optimizer step, from the first on; `COLUMNS` says what. The
    rows of a step are the same whatever other steps are counted.
    """

    def __init__(
        self,
        seed: int,
        phase: Phase,
        sample_every: int = 1,
        stop_at_nonfinite: bool = False,
        recorder: Recorder | None = None,
    ) -> None:
        if recorder is not None and stop_at_nonfinite:
            raise InputError("emulate: recorder and stop_at_nonfinite exclude each other: drop one")
        if not isinstance(sample_every, int) or sample_every < 1:
            raise InputError(f"emulate: sample_every = {sample_every!r} is not a count from 1 on")
        self.seed, self.phase, self.sample_every = seed, phase, sample_every
        self.position = 0
        self.macs = 0
        self.watch: Watch | Recorder | None = Watch(phase) if stop_at_nonfinite else recorder
        if recorder is not None:
            recorder.attach(phase)
        self.assumed: set[str] = set()
        self._keepers: dict[str, Keeper] = {}
        self._counts: dict[tuple[int, Key], Counts] = {}
        self._coverage = Coverage()
        self.footprint = Footprint()

    @property
    def sampling(self) -> bool:
        """Whether this step is counted."""
        return self.phase.step % self.sample_every == 0

    def keep(self, name: str, keeper: "Keeper") -> None:
        """Make a part's state one of the run's, under `name`."""
        self._keepers[name] = keeper

    def state_dict(self) -> dict[str, Any]:
        """All that the next operation depends on and that the model and optimizer do not hold."""
        kept = {name: keeper.state_dict() for name, keeper in self._keepers.items()}
        return {"position": self.position, "step": self.phase.step, **kept}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken.

        Raises:
            InputError: the state is of another recipe.
        """
        if set(state) != {"position", "step", *self._keepers}:
            raise InputError(
                f"emulate: state has {', '.join(sorted(state))}; this recipe keeps position, step"
                + "".join(f", {name}" for name in sorted(self._keepers))
            )
        self.position, self.phase.step = int(state["position"]), int(state["step"])
        for name, keeper in self._keepers.items():
            keeper.load_state_dict(state[name])

    def next_stream(self) -> int:
        """The number of a fresh random stream."""
        self.position += 1
        return self.position - 1

    @contextmanager
    def replaying(self, position: int) -> Iterator[None]:
        """Inside, streams are numbered from `position` on, as they were once before."""
        before, self.position = self.position, position
        try:
            yield
        finally:
            self.position = before

    def counts(self, key: Key) -> Counts:
        """The counters of a key in this step, to add to."""
        return self._counts.setdefault((self.phase.step, key), Counts())

    def count_rounding(self, key: Key, done: Conversion) -> None:
        """Count a conversion, if this step is counted."""
        if self.sampling:
            counts = self.counts(key)
            counts.add(values=done.values.size)
            counts.add_rounding(*count_rounding(done))

    def count_product(self, key: Key, product: Multiplied) -> None:
        """Count one matrix product, examined in a sample of its results."""
        counts = self.counts(key)
        counts.add(calls=1, macs=product.result.size * product.a.shape[2])
        examine(product, counts)

    def note_product(self, product: Product) -> None:
        """The product that is under way: who its operands are."""
        if self.watch is not None:
            self.watch.product = product

    def cover(self, kind: str, op: str) -> None:
        """Note how an operation was carried out: one of COVERAGE."""
        self._coverage.add(kind, op)

    def take(self) -> list[dict[str, Any]]:
        """The counters since the last call, as rows; then they start again from zero."""
        counts, self._counts = self._counts, {}
        return [counts[at].row(*at) for at in sorted(counts)]

    def coverage(self) -> dict[str, dict[str, int]]:
        """Calls of every operation since the beginning, by how it was carried out: the keys of
        `tracing.COVERAGE`, which says what each means."""
        return self._coverage.table()

    def memory(self) -> list[dict[str, Any]]:
        """What the run occupies in the chip's memory by role; see `Footprint`.

        Activations are among them where the recipe has a row `memory.activation`.
        """
        return self.footprint.rows()

    def assumptions(self) -> list[str]:
        """The assumed values that this run rested on."""
        return sorted(self.assumed)
