"""Weights as the chip stores them, with masters or without."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from ...formats.errors import InputError
from ..tracing import Trace
from .storing import Store, fingerprint, wide_bytes


@dataclass
class Kept:
    """A parameter in the chip's memory.

    Attributes:
        version: torch's count of writes when it was last looked at.
        seen: the digest of the values that were stored.
        master: what the optimizer works on; None without masters.
        working: the working copy, while the master is in its place.
        open: an optimizer that is stepping holds it.
    """

    name: str
    parameter: Tensor
    version: int = -1
    seen: str = ""
    master: Tensor | None = None
    working: Tensor | None = None
    open: bool = False


class Weights:
    """Parameters: rounded into their format after every step and whenever the program wrote them.

    With masters, forward and backward see w = round(master); the step begins with the masters in
    the parameters and ends with master = stored(parameter), w = round(master).
    """

    def __init__(self, store: Store, master: Store | None, trace: Trace) -> None:
        self.store, self.master, self.trace = store, master, trace
        self.active = not store.exact or master is not None
        self._kept: dict[int, Kept] = {}
        self._saved: dict[str, Mapping[str, Any]] = {}

    def see(self, name: str, parameter: Tensor) -> None:
        """A parameter, and whether the program has written it since it was stored."""
        if is_lazy(parameter) or not parameter.is_floating_point():
            return
        kept = self._kept.get(id(parameter))
        if kept is None:
            kept = self._kept[id(parameter)] = self._begin(name, parameter)
        elif not self.active or kept.open or kept.version == parameter._version:
            return
        if self.active and kept.seen != fingerprint(parameter):
            self._adopt(kept)
        kept.version = parameter._version

    def _begin(self, name: str, parameter: Tensor) -> Kept:
        if self.master is not None and parameter.dtype in (torch.float16, torch.bfloat16):
            raise InputError(
                f"{self.store.place}: {name} is {parameter.dtype}, which holds no masters; keep "
                "the model in float32 (the recipe rounds its working copies), or drop memory.master"
            )
        kept = Kept(name, parameter)
        self._count(kept)
        saved = self._saved.pop(name, None)
        if saved is not None and saved["seen"] == fingerprint(parameter):
            kept.seen = saved["seen"]
            kept.master = saved["master"].clone() if "master" in saved else None
        return kept

    def _adopt(self, kept: Kept) -> None:
        """Store what the parameter holds now."""
        parameter = kept.parameter
        if self.master is not None:
            kept.master = self.master.put(parameter, kept.name, "master")
        self._write(parameter, self.store.put(self._source(kept), kept.name))
        kept.seen = fingerprint(parameter)

    def _source(self, kept: Kept) -> Tensor:
        return kept.parameter if kept.master is None else kept.master

    def _write(self, parameter: Tensor, values: Tensor) -> None:
        with torch.no_grad():
            parameter.copy_(values)

    def _count(self, kept: Kept) -> None:
        footprint, x = self.trace.footprint, kept.parameter
        footprint.set("weight", kept.name, self.store.bytes(x), wide_bytes(x))
        if self.master is not None:
            footprint.set("master", kept.name, self.master.bytes(x), 0)

    def step_begins(self, parameters: list[tuple[str, Tensor]]) -> list[Kept]:
        """Put the masters in place; returns what is open from now on."""
        opened: list[Kept] = []
        for name, parameter in parameters:
            self.see(name, parameter)
            kept = self._kept.get(id(parameter))
            if kept is None or kept.open or not self.active:
                continue
            if kept.seen != fingerprint(parameter):  # written through `.data`, which is not counted
                self._adopt(kept)
            if kept.master is not None:
                kept.working = parameter.detach().clone()
                self._write(parameter, kept.master)
            kept.open = True
            opened.append(kept)
        return opened

    def step_ends(self, opened: list[Kept]) -> None:
        """Store the parameters that the step changed; put the working copies in place."""
        for kept in opened:
            parameter, kept.open = kept.parameter, False
            before = kept.seen if kept.master is None else fingerprint(kept.master)
            if before != fingerprint(parameter):
                self._adopt(kept)
            elif kept.working is not None:
                self._write(parameter, kept.working)
            kept.working, kept.version = None, parameter._version

    def closure_begins(self, opened: list[Kept]) -> None:
        """Within a step the closure, too, sees the weights as they are stored."""
        for kept in opened:
            if kept.master is not None:
                kept.master = kept.parameter.detach().clone()
            self._write(kept.parameter, self.store.put(kept.parameter, kept.name))

    def closure_ends(self, opened: list[Kept]) -> None:
        """Back to what the optimizer works on."""
        for kept in opened:
            if kept.master is not None:
                self._write(kept.parameter, kept.master)

    def state_dict(self) -> dict[str, Any]:
        """By name: the digest of the stored weight, and its master."""
        return {
            kept.name: {"seen": kept.seen}
            | ({} if kept.master is None else {"master": kept.master.clone()})
            for kept in self._kept.values()
            if self.active
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Before the parameters are seen for the first time."""
        self._saved = dict(state)
