"""Where a tensor is computed: on the host by numba, or on a CUDA device by Triton."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, TypeVar

import torch

from ..errors import InputError

T = TypeVar("T")


class _State:
    """What holds for all threads: autograd runs the backward pass of a device in one of its own.

    Attributes:
        host_tensors: tensors on the CPU go to the Triton kernels as well.
        note: told what the host computes in a device's stead; None: nothing may be.
    """

    host_tensors = False
    note: Callable[[str], None] | None = None


class NoKernel(InputError):
    """Something has no kernel for CUDA devices, and nobody asked for the host instead.

    Attributes:
        what: in words.
    """

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} has no kernel for CUDA devices; pass tensors on the CPU, or emulate with "
            "host_fallback=True"
        )
        self.what = what


def on_device(x: Any) -> bool:
    """Whether x is a tensor whose work the Triton kernels do: one on a CUDA device.

    Raises:
        InputError: it lies on another device, or on a CUDA device without Triton.
    """
    if not isinstance(x, torch.Tensor):
        return False
    kind = x.device.type
    if kind == "cpu":
        return _State.host_tensors
    if kind != "cuda":
        raise InputError(
            f"tensor on {x.device}: there are kernels for cpu and cuda tensors; pass x.cpu()"
        )
    _require()
    return True


def _require() -> None:
    if torch.version.hip is not None:
        raise InputError(
            "tensor on an AMD GPU: the kernels are proved for NVIDIA's instructions; pass x.cpu()"
        )
    if find_spec("triton") is None:
        raise InputError(
            'tensor on a CUDA device, but Triton is not installed: pip install "tapeout[gpu]", '
            "or pass x.cpu()"
        )


@contextmanager
def host_tensors_too() -> Iterator[None]:
    """Inside, tensors on the CPU go the way of those on a CUDA device.

    For proofs on a machine without a GPU: the kernels then run in Triton's interpreter, which
    TRITON_INTERPRET=1 must have chosen before Triton was imported.
    """
    before, _State.host_tensors = _State.host_tensors, True
    try:
        yield
    finally:
        _State.host_tensors = before


@contextmanager
def host_fallback(note: Callable[[str], None] | None) -> Iterator[None]:
    """Inside, what has no kernel is computed on the host, and `note` is told; None: refused."""
    before, _State.note = _State.note, note
    try:
        yield
    finally:
        _State.note = before


@contextmanager
def _on_host() -> Iterator[None]:
    before, _State.host_tensors = _State.host_tensors, False
    try:
        yield
    finally:
        _State.host_tensors = before


def or_on_host(device: Callable[[], T], host: Callable[[], T]) -> T:
    """What the device computes, or the host where that has no kernel and somebody asked for it.

    Raises:
        NoKernel: there is no kernel, and nobody did.
    """
    try:
        return device()
    except NoKernel as error:
        if _State.note is None:
            raise
        _State.note(error.what)
    with _on_host():
        return host()
