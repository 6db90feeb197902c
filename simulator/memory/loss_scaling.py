"""Loss scaling: gradients pass backward times a power of two, and reach `.grad` without it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...formats.errors import InputError
from ..phase import Phase
from ..steps import SkipStep
from ..tracing import Key, Trace
from .engine import Run, leaves_of, wrapped_engine
from .gradients import put_first
from .retained import Retained
from .rows import LossScalingRow

if TYPE_CHECKING:
    from ..recipe import Recipe


class LossScaling:
    """The recipe's loss scale S, as torch.amp.GradScaler applies it, around an unmodified program.

    A backward pass starts from S times its root gradients and every gradient that reaches `.grad`,
    or is returned, is multiplied by 1 / S on the way; in between, hooks of the program see scaled
    gradients. S is a power of two: both products are exact but at the ends of the range.

    A step whose optimizer has a gradient that is not finite is not carried out at all, and S
    falls; S rises after `interval` finite ones. Several optimizers stepping after the same
    backward pass count once. A program's own GradScaler works on top of it.

    Source: Micikevicius et al., Mixed Precision Training, arXiv 1710.03740, section 3.2.
    """

    def __init__(self, recipe: "Recipe", phase: Phase, trace: Trace) -> None:
        self.row, self.place = recipe.rows.loss_scaling, recipe.place
        self.phase, self.trace = phase, trace
        self.scale = 1.0 if self.row is None else self.row.initial
        self.good, self.skipped = 0, 0
        self._passing = self.scale
        self._counted = self._fallen = False
        self._adding: list[bool] = []
        self.retained = Retained()
        if self.row is not None:
            trace.keep("loss_scaling", self)

    def current(self) -> float:
        """S of the running backward pass, or of the last one."""
        return self._passing

    @contextmanager
    def scaling(self) -> Iterator[None]:
        """While the emulation runs."""
        if self.row is None:
            yield
            return
        with wrapped_engine(self._backward), self.retained.noting():
            yield

    def _backward(
        self,
        engine: Run,
        outputs: Sequence[Any],
        roots: Sequence[Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """One backward pass. Inside of another (a checkpoint, a solver) roots are scaled already,
        and only parameters leave with 1 / S."""
        adds = kwargs.get("accumulate_grad", False)
        nested = bool(self._adding) or torch._C._current_graph_task_id() != -1
        if not nested:
            self._passing = self.scale
            roots = tuple(None if g is None else g * self.scale for g in roots)
            self._counted = self._fallen = False
        self._adding.append(adds)
        try:
            with ExitStack() as stack:
                if adds:
                    self._unscale_leaves(outputs, nested, stack)
                    if not nested:
                        targets = args[2] if len(args) > 2 else ()
                        stack.enter_context(self.retained.apart(targets, 1 / self._passing))
                results = engine(outputs, roots, *args, **kwargs)
        finally:
            self._adding.pop()
        if adds or nested:
            return results
        return tuple(None if g is None else g * (1 / self._passing) for g in results)

    def _unscale_leaves(self, outputs: Sequence[Any], nested: bool, stack: ExitStack) -> None:
        leaf: Any
        for leaf in leaves_of(outputs):
            if not leaf.requires_grad or (nested and not isinstance(leaf, torch.nn.Parameter)):
                continue
            if leaf.dtype == torch.float16:
                raise InputError(
                    f"{self.place}: loss scaling: a parameter of shape {tuple(leaf.shape)} is "
                    "float16, in which unscaled gradients underflow; keep the model in float32 "
                    "(the recipe rounds it)"
                )
            stack.callback(leaf.register_hook(self._unscaled).remove)
            hooks: Any = leaf._backward_hooks
            put_first(hooks)

    def _unscaled(self, gradient: Tensor) -> Tensor | None:
        """On its way into `.grad`; a gradient that is only asked for passes as it is."""
        return gradient * (1 / self._passing) if self._adding and self._adding[-1] else None

    def step_begins(self, optimizer: torch.optim.Optimizer) -> None:
        """See `steps.Part`."""

    def step_ends(self, optimizer: torch.optim.Optimizer) -> None:
        """See `steps.Part`."""

    def judge(self, optimizer: torch.optim.Optimizer, evaluation: int) -> None:
        """See `steps.Judge`: move S, and skip a step whose gradients are not all finite.

        Raises:
            InputError: the closure has run before in this step, which cannot be undone.
        """
        if self.row is None:
            return
        if self._finite(optimizer):
            self._rise(self.row)
            return
        if evaluation > 1:
            raise InputError(
                f"{self.place}: loss scaling: evaluation {evaluation} of the closure within one "
                f"step of {type(optimizer).__name__} has gradients that are not finite, and the "
                'step cannot be undone; use kind = "static" with a lower initial'
            )
        self._fall(self.row)
        if self.trace.sampling:
            self.trace.counts(Key("", "step", "optimizer", "skipped", "")).add(calls=1)
        raise SkipStep(optimizer)

    def _rise(self, row: LossScalingRow) -> None:
        """Count a finite step, the first since the backward pass."""
        if self._counted:
            return
        self._counted, self.good, self.skipped = True, self.good + 1, 0
        if row.kind == "dynamic" and self.good >= row.interval:
            self.scale, self.good = min(self.scale * row.growth, row.most), 0

    def _fall(self, row: LossScalingRow) -> None:
        """Begin to count again; S falls once after a backward pass."""
        self.good, self.skipped = 0, self.skipped + 1
        if row.kind == "dynamic" and not self._fallen:
            self.scale, self._fallen = max(self.scale * row.backoff, row.least), True

    def _finite(self, optimizer: torch.optim.Optimizer) -> bool:
        gradients = (p.grad for group in optimizer.param_groups for p in group["params"])
        return all(bool(torch.isfinite(_dense(g)).all()) for g in gradients if g is not None)

    def state_dict(self) -> dict[str, Any]:
        """S and the steps since it changed."""
        return {"scale": self.scale, "good": self.good, "skipped": self.skipped}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.scale, self.good = float(state["scale"]), int(state["good"])
        self.skipped = int(state["skipped"])


def _dense(x: Tensor) -> Tensor:
    return x if x.layout == torch.strided else x.coalesce().values()
