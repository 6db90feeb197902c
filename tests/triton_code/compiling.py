"""Kernels compiled as they would be launched, on a machine without a GPU.

`python -m tapeout.tests.triton_code.compiling 90 all` makes launches of every kernel on tensors in
memory, compiles each for that compute capability with Triton's own compiler, launches none, and
prints one JSON line a kernel: its name and what its PTX has that would change bits.
"""

import json
import re
import sys
from collections.abc import Callable
from typing import Any

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from tapeout.formats.device.place import host_tensors_too

#: What no kernel may have: flushed subnormals, approximations, tensor cores of the GPU.
FORBIDDEN = {
    "flushed": r"\.ftz",
    "approximate": r"\.approx|\.full\b",
    "tensor core": r"\b(?:mma|wgmma|tcgen05)\.",
    "fused": r"\bfma\.",
}


class _Target:
    """A driver that compiles for a GPU and has none."""

    def __init__(self, capability: int) -> None:
        self.target = GPUTarget("cuda", capability, 32)

    def get_current_target(self) -> GPUTarget:
        """What to compile for."""
        return self.target

    def get_current_device(self) -> int:
        """The only one."""
        return 0

    def get_current_stream(self, device: int) -> int:
        """None is needed."""
        return 0


def compile_launches(
    capability: int, launches: Callable[[], None], tell: Callable[[dict[str, Any]], None]
) -> None:
    """Compile the kernels that `launches` asks for, and tell of each specialisation once."""
    found: set[str] = set()
    kernel: Any = JITFunction
    plain = kernel.run

    def run(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> Any:
        compiled = plain(self, *args, grid=grid, warmup=True, **kwargs)
        name, meant = self.fn.__name__, kwargs
        step = meant.get("s")
        if name == "matmul" and getattr(step, "fma", 0):
            name = "matmul_fma"
        if compiled.hash not in found:
            found.add(compiled.hash)
            tell(report(name, self.fn.__module__, compiled.asm["ptx"]))
        return compiled

    # Nothing is launched, so results are what their memory holds: zeros, which index nothing amiss.
    # Any, because what takes another function's place has not its overloads.
    namespace: Any = torch
    active: Any = driver
    empty, empty_like = torch.empty, torch.empty_like
    namespace.empty, namespace.empty_like = torch.zeros, torch.zeros_like
    kernel.run = run
    active.set_active(_Target(capability))
    try:
        with host_tensors_too():
            launches()
    finally:
        kernel.run = plain
        namespace.empty, namespace.empty_like = empty, empty_like


def report(name: str, module: str, ptx: str) -> dict[str, Any]:
    """What stands in the code of a kernel."""
    body = re.sub(r"//.*", "", ptx)
    counts = {what: len(re.findall(pattern, body)) for what, pattern in FORBIDDEN.items()}
    return {"kernel": name, "module": module, "lines": body.count(";"), **counts}


def main() -> None:
    """Compile for the compute capability of the first argument; the second is "few" or "all"."""
    from .launches import every_kernel, few_kernels

    launches = few_kernels if sys.argv[2:] == ["few"] else every_kernel
    compile_launches(int(sys.argv[1]), launches, lambda row: print(json.dumps(row), flush=True))


if __name__ == "__main__":
    main()
