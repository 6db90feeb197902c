"""Runs one x86 instruction in a process of its own: what it does not survive, its caller does.

Started as a script, with a folder that holds request.json and the arrays a, b, c and tiles; it
leaves d.npy, or prints why it could not and exits with 2. It imports nothing of the package.
"""

import ctypes
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

ARCH_PRCTL, REQUEST_PERMISSION, TILE_DATA = 158, 0x1023, 18


def refusal() -> str | None:
    """Why the kernel lets this process have no tile registers; None if it does."""
    if sys.platform != "linux":
        return f"tile registers are asked for on Linux, not on {sys.platform}"
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    numbers = [ctypes.c_long(x) for x in (ARCH_PRCTL, REQUEST_PERMISSION, TILE_DATA)]
    if libc.syscall(*numbers) != 0:
        return f"the kernel refuses tile registers: {os.strerror(ctypes.get_errno())}"
    return None


def run(folder: Path) -> str | None:
    """Compile and call; None, or the reason why not."""
    request: dict[str, Any] = json.loads((folder / "request.json").read_text())
    if request["tiles"] and (reason := refusal()):
        return reason
    if request["groups"] == 0:
        return None
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    llvm.initialize_native_asmparser()
    module = llvm.parse_assembly(request["code"])
    module.verify()
    target = llvm.Target.from_default_triple().create_target_machine(opt=2)
    engine = llvm.create_mcjit_compiler(module, target)
    engine.finalize_object()
    kind = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 5, *[ctypes.c_int64] * 2)
    arrays = [np.load(folder / f"{name}.npy") for name in ("a", "b", "c", "c", "tiles")]
    call = kind(engine.get_function_address("run"))
    call(*(array.ctypes.data for array in arrays), request["groups"], request["steps"])
    np.save(folder / "d.npy", arrays[3])
    return None


if __name__ == "__main__":
    answer = run(Path(sys.argv[1]))
    if answer:
        print(answer)
        sys.exit(2)
