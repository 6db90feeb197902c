"""Storage formats of weights, gradients, optimizer states and saved activations."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...formats.errors import InputError
from ..chip import Chip
from ..phase import Phase
from ..roles import Roles
from ..tracing import Trace
from .activations import Activations
from .gradients import Gradients
from .loss_scaling import LossScaling
from .rows import Storage
from .states import States
from .storing import Store
from .weights import Kept, Weights

if TYPE_CHECKING:
    from ..recipe import Recipe


class Memory:
    """Rounds what the recipe stores narrower than it was computed.

    Weights, gradients and activations are told apart by the model. Parameters that only an
    optimizer knows are stored from its first step on. What an optimizer keeps elsewhere than in
    `optimizer.state` is not seen.

    Raises:
        InputError: the recipe stores any of them and there is no model; a rounding that the chip
            does not have.
    """

    def __init__(self, chip: Chip, recipe: "Recipe", phase: Phase, trace: Trace) -> None:
        self.phase, self.trace = phase, trace
        table, place = recipe.rows.memory, recipe.place

        def store(row: Storage, role: str) -> Store:
            return Store(row, role, place, chip, trace)

        master = None if table.master is None else store(table.master, "master")
        self.weights = Weights(store(table.weight, "weight"), master, trace)
        self.gradients = Gradients(store(table.gradient, "gradient"), phase, trace)
        rows = {name: store(row, "optimizer") for name, row in table.optimizer.items()}
        self.states = States(rows, trace)
        self.activations: Activations | None = None
        if table.activation is not None:
            kept = store(table.activation, "activation")
            self.activations = Activations(kept, self._is_parameter, phase, trace)
        if phase.model is None and self._needs_model():
            raise InputError(
                f"{place}: stores weights, gradients or activations in formats of their own: "
                "emulate(..., model=model) tells which tensors these are"
            )
        self._addresses: set[int] = set()
        self._open: list[tuple[list[Kept], dict[int, str]]] = []
        trace.keep("weights", self.weights)
        trace.keep("footprint", trace.footprint)

    def connect(self, scaling: LossScaling, roles: Roles) -> None:
        """Gradients are stored scaled; stored activations keep their roles."""
        self.gradients.scale = scaling.current
        if self.activations is not None:
            self.activations.note_copy = roles.note_copy

    def _needs_model(self) -> bool:
        narrow = self.weights.active or not self.gradients.store.exact
        return narrow or self.activations is not None

    def _is_parameter(self, address: int) -> bool:
        return address in self._addresses

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """While the emulation runs: weights are stored at once, and whenever they are written."""
        with ExitStack() as stack:
            stack.callback(self.gradients.remove)
            self._see_model()
            if self.phase.model is not None and self._needs_model():
                self._watch_model(self.phase.model, stack)
            if self.activations is not None:
                stack.enter_context(self.activations.saving())
            yield

    def _watch_model(self, model: torch.nn.Module, stack: ExitStack) -> None:
        """Look at parameters before a module uses them: the program may have written them."""

        def look(module: torch.nn.Module, args: Any) -> None:
            if module is model:
                self._see_model()

        def look_at(own: Sequence[tuple[str, Tensor]]) -> Any:
            def look_at_own(module: torch.nn.Module, args: Any) -> None:
                with self.phase.pause():
                    for name, parameter in own:
                        self.weights.see(name, parameter)

            return look_at_own

        stack.callback(model.register_forward_pre_hook(look, prepend=True).remove)
        for prefix, module in model.named_modules():
            own = [
                (f"{prefix}.{name}" if prefix else name, parameter)
                for name, parameter in module.named_parameters(recurse=False)
            ]
            if own and module is not model and self.weights.active:
                hook = module.register_forward_pre_hook(look_at(own), prepend=True)
                stack.callback(hook.remove)

    def _see_model(self) -> None:
        model = self.phase.model
        if model is None:
            return
        with self.phase.pause():
            for name, parameter in model.named_parameters():
                self._see(name, parameter)
            tensors = (*model.parameters(), *model.buffers())
            self._addresses = {
                x.untyped_storage()._cdata for x in tensors if not torch.nn.parameter.is_lazy(x)
            }

    def _see(self, name: str, parameter: Tensor) -> None:
        self.weights.see(name, parameter)
        self.gradients.see(name, parameter)

    def step_begins(self, optimizer: torch.optim.Optimizer) -> None:
        """Masters into the parameters."""
        self._see_model()
        parameters = self._parameters(optimizer)
        states = self.states.step_begins(optimizer)
        self._open.append((self.weights.step_begins(parameters), states))

    def step_ends(self, optimizer: torch.optim.Optimizer) -> None:
        """Store what the step changed: states, masters, weights."""
        opened, before = self._open.pop()
        self.weights.step_ends(opened)
        names = {id(p): name for name, p in self._parameters(optimizer)}
        self.states.step_ends(optimizer, before, names)

    def closure_begins(self, optimizer: torch.optim.Optimizer) -> None:
        """See `steps.Closures`."""
        self.weights.closure_begins([kept for opened, _ in self._open for kept in opened])

    def closure_ends(self, optimizer: torch.optim.Optimizer) -> None:
        """See `steps.Closures`."""
        self.weights.closure_ends([kept for opened, _ in self._open for kept in opened])

    def _parameters(self, optimizer: torch.optim.Optimizer) -> list[tuple[str, Tensor]]:
        """The optimizer's parameters by name: the model's, or their place in the groups."""
        model = self.phase.model
        known = {id(p): name for name, p in model.named_parameters()} if model is not None else {}
        return [
            (known.get(id(p), f"{type(optimizer).__name__}.{g}.{i}"), p)
            for g, group in enumerate(optimizer.param_groups)
            for i, p in enumerate(group["params"])
        ]
