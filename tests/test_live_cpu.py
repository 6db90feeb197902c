"""The processor under the tests as an oracle: its own AVX512-BF16 against the unit vdpbf16ps.

The instruction is emitted through llvmlite, which numba brings: no compiler is needed.
"""

import ctypes

import llvmlite.binding as llvm
import numpy as np
import pytest

from tapeout.simulator import load_chip

IR = """
declare <16 x float> @llvm.x86.avx512bf16.dpbf16ps.512(<16 x float>, <32 x bfloat>, <32 x bfloat>)
define void @dot(ptr %a, ptr %b, ptr %c, ptr %d, i64 %n) "target-features"="+avx512bf16,+avx512f" {
entry:
  br label %loop
loop:
  %i = phi i64 [0, %entry], [%next, %loop]
  %j = shl i64 %i, 1
  %pa = getelementptr i16, ptr %a, i64 %j
  %pb = getelementptr i16, ptr %b, i64 %j
  %pc = getelementptr float, ptr %c, i64 %i
  %pd = getelementptr float, ptr %d, i64 %i
  %va = load <32 x bfloat>, ptr %pa, align 2
  %vb = load <32 x bfloat>, ptr %pb, align 2
  %vc = load <16 x float>, ptr %pc, align 4
  %r = call <16 x float> @llvm.x86.avx512bf16.dpbf16ps.512(<16 x float> %vc, <32 x bfloat> %va,
                                                           <32 x bfloat> %vb)
  store <16 x float> %r, ptr %pd, align 4
  %next = add i64 %i, 16
  %more = icmp ult i64 %next, %n
  br i1 %more, label %loop, label %end
end:
  ret void
}
"""
LANES = 160_000


def has_instruction() -> bool:
    return bool(llvm.get_host_cpu_features().get("avx512bf16", False))


def compile_instruction() -> tuple[object, "ctypes._FuncPointer"]:
    """The machine code, and the engine that must outlive it."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_default_triple().create_target_machine()
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(IR), target)
    engine.finalize_object()
    kind = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4, ctypes.c_long)
    return engine, kind(engine.get_function_address("dot"))


def operands(case: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes of bfloat16 pairs (2 a lane) and float32 addends: alike, at the flush, or any bits."""
    if case == "any bits":
        codes = rng.integers(0, 2**16, (2, 2 * LANES), dtype=np.uint16)
        return codes[0], codes[1], rng.integers(0, 2**32, LANES, dtype=np.uint32).view(np.float32)
    low, high, addend = (-66, -60, -127) if case == "at the flush" else (-2, 3, 0)
    x = rng.standard_normal((2, 2 * LANES)) * 2.0 ** rng.integers(low, high, (2, 2 * LANES))
    codes = (x.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    c = rng.standard_normal(LANES) * 2.0 ** (addend + rng.integers(-3, 4, LANES))
    return codes[0], codes[1], c.astype(np.float32)


@pytest.mark.skipif(not has_instruction(), reason="this processor has no AVX512-BF16")
@pytest.mark.parametrize("case", ["alike", "at the flush", "any bits"])
def test_unit_equals_the_processor(case: str) -> None:
    engine, dot = compile_instruction()
    unit = load_chip("intel-sapphire-rapids").matrix_unit(
        "bfloat16", "bfloat16", instruction="vdpbf16ps"
    )
    rng = np.random.default_rng(16)
    for _ in range(3):
        a, b, c = operands(case, rng)
        silicon = np.empty(LANES, np.float32)
        dot(*(x.ctypes.data for x in (a, b, c, silicon)), LANES)
        x, y = ((v.astype(np.uint32) << 16).view(np.float32).reshape(LANES, 2) for v in (a, b))
        ours = unit.dot(x, y, c, check=False)
        same = (ours == silicon) & (np.signbit(ours) == np.signbit(silicon))
        assert int((~(same | (np.isnan(ours) & np.isnan(silicon)))).sum()) == 0
    assert engine is not None
