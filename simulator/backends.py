"""PyTorch's own fused kernels, switched off where they would hide products from the chip."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)


@contextmanager
def taken_apart() -> Iterator[None]:
    """Inside, attention, recurrent layers and encoder layers run as the products they are.

    Attention takes its math path (two products and a softmax), `nn.LSTM` its linear layers and
    gates instead of one oneDNN kernel, `nn.TransformerEncoderLayer` in evaluation its Python code
    instead of one fused operation.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), _plain_lstm():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


@contextmanager
def _plain_lstm() -> Iterator[None]:
    """oneDNN off while an `nn.LSTM` runs, and only then: its GELU is the host's as well."""
    backend: Any = torch.backends.mkldnn
    before: list[bool] = []

    def enter(module: torch.nn.Module, args: Any) -> None:
        if isinstance(module, torch.nn.LSTM):
            before.append(backend.enabled)
            backend.enabled = False

    def leave(module: torch.nn.Module, args: Any, output: Any) -> None:
        if isinstance(module, torch.nn.LSTM) and before:
            backend.enabled = before.pop()

    handles = (
        register_module_forward_pre_hook(enter),
        register_module_forward_hook(leave, always_call=True),
    )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        if before:
            backend.enabled = before[0]
