"""The one numba decorator of the project.

numba's on-disk cache does not see edits to a callee in another file, so the cache folder is
named after the content of every source file that can hold a kernel or a constant of one, and
after numba itself. Kernels of the optimizers have a folder of their own: an edit to them leaves
those of the floors below as they are.
"""

import hashlib
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
import torch
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import prange as prange
from numba.extending import intrinsic as _numba_intrinsic
from numba.np.ufunc.parallel import _launch_threads

ROOT = Path(__file__).parent.parent
_HOME = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "tapeout"
#: Folders among the kernels' that hold no numba kernel.
_NO_KERNELS = ("device", "triton")
_config: Any = numba.config  # pyright: ignore[reportPrivateImportUsage]


def _cache_folder(*sources: str) -> str:
    """The folder named after numba and the content of these files and folders of the package."""
    digest = hashlib.sha256(numba.__version__.encode())
    paths = [ROOT / source for source in sources]
    files = {file for path in paths for file in (path.rglob("*.py") if path.is_dir() else [path])}
    for file in sorted(file for file in files if file.parent.name not in _NO_KERNELS):
        digest.update(file.read_bytes())
    return str(_HOME / digest.hexdigest()[:12])


_LOWER = ("formats", "simulator/kernels")
_FOLDER = _cache_folder(*_LOWER)
_OPTIMIZERS = _cache_folder(*_LOWER, "optimizers/kernels", "optimizers/elementary.py")


def _decorator(**options: bool) -> Callable[..., Any]:
    """numba's, with the cache in the folder of the function's floor."""
    compiler: Any = numba.njit

    def decorate(function: Any) -> Any:
        ours = function.__module__.startswith("tapeout.optimizers.")
        _config.CACHE_DIR = _OPTIMIZERS if ours else _FOLDER  # read as a function is decorated
        return compiler(cache=True, **options)(function)

    return decorate


#: numba takes the leading context away from what it decorates, which type checkers cannot see.
intrinsic: Callable[..., Any] = _numba_intrinsic

#: A function compiled on first use and kept on disk. IEEE semantics: no reassociation, no
#: contraction of a*b+c into a fused multiply-add, no flush of subnormals.
jit = _decorator()

#: A scalar helper of kernels, always inlined: LLVM vectorises no loop that still has a call.
scalar_jit = _decorator(forceinline=True)

#: As `jit`, with `prange` loops spread over the threads of `set_threads`.
parallel_jit = _decorator(parallel=True)


#: The codes of `set_rounding`, those of LLVM.
ROUND_TOWARD_ZERO, ROUND_NEAREST, ROUND_DOWN = 0, 1, 3


@cache
def start_threads() -> None:
    """Start numba's threads before its first kernel would, and give torch back its own count.

    Both draw on one OpenMP pool, whose size numba sets as it starts; without this, torch's sums
    would change bits in the middle of a program.
    """
    count = torch.get_num_threads()
    _launch_threads()  # type: ignore[no-untyped-call]
    torch.set_num_threads(count)


def set_threads(count: int) -> None:
    """Bound the threads of every parallel kernel in this process; results do not depend on it."""
    start_threads()
    numba.set_num_threads(max(1, min(count, _config.NUMBA_NUM_THREADS)))


def limit_threads(count: int) -> int:
    """Bound the threads of the kernels that this thread starts next; returns the bound so far."""
    before: int = numba.get_num_threads()
    numba.set_num_threads(count)
    return before


@intrinsic
def float_bits(_context: Any, x: Any) -> Any:
    """The bits of a float64 as int64, or of a float32 as int32."""
    target = numba.types.int64 if x == numba.types.float64 else numba.types.int32

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(signature.return_type))

    return target(x), generate


@intrinsic
def bits_float(_context: Any, bits: Any) -> Any:
    """The float64 with these int64 bits, or the float32 with these int32 bits."""
    target = numba.types.float64 if bits == numba.types.int64 else numba.types.float32

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(signature.return_type))

    return target(bits), generate


@intrinsic
def narrow(_context: Any, x: Any, like: Any) -> Any:
    """Integer or boolean x in the type of `like`: numba computes in 64 bits, lanes do not."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        target = context.get_value_type(signature.return_type)
        if args[0].type.width <= target.width:
            return args[0] if args[0].type == target else builder.zext(args[0], target)
        return builder.trunc(args[0], target)

    return like(x, like), generate


@intrinsic
def rotated(_context: Any, x: Any, places: Any, like: Any) -> Any:
    """Unsigned x in the width of `like`, rotated right by `places` (modulo that width)."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        target = context.get_value_type(signature.return_type)
        word = args[0] if args[0].type == target else builder.zext(args[0], target)
        count = args[1] if args[1].type == target else builder.trunc(args[1], target)
        kind = ir.FunctionType(target, [target] * 3)
        rotate = builder.module.declare_intrinsic("llvm.fshr", (target,), kind)
        return builder.call(rotate, [word, word, count])

    return like(x, places, like), generate


@intrinsic
def set_rounding(_context: Any, mode: Any) -> Any:
    """Round float operations of this thread as `ROUND_...` says; put `ROUND_NEAREST` back after.

    LLVM assumes round-to-nearest wherever it looks: the arithmetic must stand in a function of its
    own that calls `stay_apart`, on operands that are loaded there.
    """

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        word = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [word])
        function = builder.module.declare_intrinsic("llvm.set.rounding", (), kind)
        builder.call(function, [builder.trunc(args[0], word)])
        return context.get_dummy_value()

    return numba.types.none(mode), generate


@intrinsic
def stay_apart(_context: Any) -> Any:
    """Mark the function around this call as one that is never inlined."""

    def generate(context: Any, builder: Any, _signature: Any, _args: Any) -> Any:
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return numba.types.none(), generate


@intrinsic
def fma(_context: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c rounded once, in float64 or float32; exact on every machine, fused or emulated."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.fma(*args)

    return a(a, b, c), generate


def _same_width(operation: str) -> Callable[..., Any]:
    """An integer operation that stays in the width of its first argument.

    numba's own widen 32-bit integers to 64 bits, which halves the lanes of a vector.
    """

    def typed(_context: Any, x: Any, y: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            second = context.cast(builder, args[1], signature.args[1], signature.return_type)
            return getattr(builder, operation)(args[0], second)

        return x(x, y), generate

    made: Callable[..., Any] = intrinsic(typed)
    return made


#: x + y, x * y, x & y, x | y, x << y and x >> y (zeros come in) in the width of x.
add_bits = _same_width("add")
multiply_bits = _same_width("mul")
and_bits = _same_width("and_")
or_bits = _same_width("or_")
shift_left = _same_width("shl")
shift_right = _same_width("lshr")


@intrinsic
def convert(_context: Any, x: Any, y: Any) -> Any:
    """x in the type of y."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.cast(builder, args[0], signature.args[0], signature.return_type)

    return y(x, y), generate


_FEATURES = get_host_cpu_features()
#: Whether the machine multiplies and adds float16, and whether it at least converts them.
HALF_FMA = any(_FEATURES.get(name, False) for name in ("avx512fp16", "fullfp16"))
HALF = HALF_FMA or _FEATURES.get("f16c", False) or _FEATURES.get("fp-armv8", False)


@intrinsic
def fma_half(_context: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c of float16 given and returned by their bits, as int16.

    Rounded once where the machine has such an instruction, else in float32 and then to float16,
    spelled out: left to LLVM, that is a call of a function which no library here provides.
    """

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        terms = [builder.bitcast(x, ir.HalfType()) for x in args]
        if HALF_FMA:
            return builder.bitcast(builder.fma(*terms), ir.IntType(16))
        sums = builder.fma(*(builder.fpext(x, ir.FloatType()) for x in terms))
        return builder.bitcast(builder.fptrunc(sums, ir.HalfType()), ir.IntType(16))

    return a(a, b, c), generate
