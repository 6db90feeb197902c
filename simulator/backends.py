"""PyTorch's compiler and fused kernels, off where they would hide operations from the chip."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel


@contextmanager
def taken_apart() -> Iterator[None]:
    """Inside, attention, recurrent layers and encoder layers run as the products they are.

    Attention takes its math path (two products and a softmax), `nn.LSTM` its linear layers and
    gates instead of one oneDNN kernel, `nn.TransformerEncoderLayer` in evaluation its Python code
    instead of one fused operation, batch norm on a GPU PyTorch's own instead of cuDNN's. What
    `torch.compile` has made, or makes, runs as it is written.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with (
            torch.compiler.set_stance("force_eager"),
            sdpa_kernel(SDPBackend.MATH),
            torch.backends.cudnn.flags(enabled=False),
            _plain_lstm(),
        ):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


@contextmanager
def _plain_lstm() -> Iterator[None]:
    """oneDNN off while an LSTM runs, and only then: its GELU is the host's as well."""
    functions: Any = torch._VF
    backend: Any = torch.backends.mkldnn
    before, plain = vars(functions).get("lstm"), functions.lstm

    def lstm(*args: Any) -> Any:
        enabled, backend.enabled = backend.enabled, False
        try:
            return plain(*args)
        finally:
            backend.enabled = enabled

    functions.lstm = lstm
    try:
        yield
    finally:
        if before is None:
            del functions.lstm
        else:
            functions.lstm = before
