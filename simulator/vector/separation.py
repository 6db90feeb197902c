"""PyTorch's own fusions switched off, so that the operations inside them are seen."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)


@contextmanager
def separate_operations() -> Iterator[None]:
    """Recurrent layers and transformer encoders as the operations they are made of.

    oneDNN runs a recurrent layer, and the encoder's fast path a whole layer, as one operation.
    oneDNN stays on elsewhere: some of the host's functions are its.
    """
    stack: list[bool] = []

    def begin(module: torch.nn.Module, args: Any) -> None:
        if isinstance(module, torch.nn.RNNBase):
            stack.append(torch.backends.mkldnn.set_flags(False)[0])  # type: ignore[no-untyped-call]

    def end(module: torch.nn.Module, args: Any, output: Any) -> None:
        if isinstance(module, torch.nn.RNNBase):
            torch.backends.mkldnn.set_flags(stack.pop())  # type: ignore[no-untyped-call]

    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    handles = (
        register_module_forward_pre_hook(begin),
        register_module_forward_hook(end, always_call=True),
    )
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for handle in handles:
            handle.remove()
