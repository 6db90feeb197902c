"""The x86 instructions that a profile can be held against, as rows, and their machine code.

A vector instruction adds `products` products to each 32-bit (or 16-, 64-bit) lane; a tile
instruction multiplies 16 rows of 64 bytes by 16 columns. The code is emitted by llvmlite, which
numba brings: no compiler is needed, and nothing here runs it.
"""

from dataclasses import dataclass
from functools import cache

from ...formats import get_format

TRIPLE = "x86_64-unknown-linux-gnu"
#: Bytes of a tile row, and rows of a tile: palette 1 (Intel SDM, volume 1, chapter 18).
TILE_BYTES, TILE_ROWS = 64, 16


@dataclass(frozen=True)
class Instruction:
    """An instruction of the processor.

    Attributes:
        name: as in the vendor's manual and in the chips' files.
        form: its extension, for messages.
        a, b, output: formats of the operands and of the sum.
        flags: what /proc/cpuinfo must list, all of it.
        features: what LLVM must be told.
        assembly: of a vector instruction, AT&T order b, a, c; None for a tile instruction.
        lanes: of a vector instruction.
    """

    name: str
    form: str
    a: str
    b: str
    output: str
    flags: tuple[str, ...]
    features: str
    assembly: str | None = None
    lanes: int = 16

    @property
    def tile(self) -> bool:
        """Whether it multiplies tiles."""
        return self.assembly is None

    @property
    def products(self) -> int:
        """Products that one instruction adds to an output."""
        if self.tile:
            return TILE_BYTES * 8 // get_format(self.a).bits
        return get_format(self.output).bits // get_format(self.a).bits

    @property
    def per_lane(self) -> int:
        """Elements of A in the width of an output."""
        return get_format(self.output).bits // get_format(self.a).bits


_VNNI = ("AVX512-VNNI", ("avx512f", "avx512_vnni"), "+avx512f,+avx512vnni")
_AVX_VNNI = ("AVX-VNNI", ("avx2", "avx_vnni"), "+avx2,+avxvnni")
_BF16 = ("AVX512-BF16", ("avx512f", "avx512_bf16"), "+avx512f,+avx512bf16")
_FMA = ("AVX512F", ("avx512f",), "+avx512f")
_FP16 = ("AVX512-FP16", ("avx512f", "avx512bw", "avx512_fp16"), "+avx512f,+avx512bw,+avx512fp16")
_AMX_BF16 = ("AMX-BF16", ("amx_tile", "amx_bf16"), "+amx-tile,+amx-bf16")
_AMX_INT8 = ("AMX-INT8", ("amx_tile", "amx_int8"), "+amx-tile,+amx-int8")
_AMX_FP16 = ("AMX-FP16", ("amx_tile", "amx_fp16"), "+amx-tile,+amx-fp16")

INSTRUCTIONS = (
    Instruction("vdpbf16ps", _BF16[0], "bfloat16", "bfloat16", "float32", *_BF16[1:],
                "vdpbf16ps"),
    Instruction("vpdpbusd", _VNNI[0], "uint8", "int8", "int32", *_VNNI[1:], "vpdpbusd"),
    Instruction("vpdpbusds", _VNNI[0], "uint8", "int8", "int32", *_VNNI[1:], "vpdpbusds"),
    Instruction("vpdpbusd", _AVX_VNNI[0], "uint8", "int8", "int32", *_AVX_VNNI[1:],
                "{vex} vpdpbusd", 8),
    Instruction("vpdpbusds", _AVX_VNNI[0], "uint8", "int8", "int32", *_AVX_VNNI[1:],
                "{vex} vpdpbusds", 8),
    Instruction("vfmadd", _FMA[0], "float32", "float32", "float32", *_FMA[1:], "vfmadd231ps"),
    Instruction("vfmadd pd", _FMA[0], "float64", "float64", "float64", *_FMA[1:],
                "vfmadd231pd", 8),
    Instruction("vfmadd ph", _FP16[0], "float16", "float16", "float16", *_FP16[1:],
                "vfmadd231ph", 32),
    Instruction("tdpbf16ps", _AMX_BF16[0], "bfloat16", "bfloat16", "float32", *_AMX_BF16[1:]),
    Instruction("tdpfp16ps", _AMX_FP16[0], "float16", "float16", "float32", *_AMX_FP16[1:]),
    Instruction("tdpbssd", _AMX_INT8[0], "int8", "int8", "int32", *_AMX_INT8[1:]),
    Instruction("tdpbsud", _AMX_INT8[0], "int8", "uint8", "int32", *_AMX_INT8[1:]),
    Instruction("tdpbusd", _AMX_INT8[0], "uint8", "int8", "int32", *_AMX_INT8[1:]),
    Instruction("tdpbuud", _AMX_INT8[0], "uint8", "uint8", "int32", *_AMX_INT8[1:]),
)  # fmt: skip

_LOOP = """
define void @run(ptr %a, ptr %b, ptr %c, ptr %d, ptr %tiles, i64 %groups, i64 %steps) #0 {{
entry:
{enter}
  br label %outer
outer:
  %g = phi i64 [0, %entry], [%g1, %store]
  %base = mul i64 %g, %steps
  %pc = getelementptr {block}, ptr %c, i64 %g
{load}
  br label %inner
inner:
  %s = phi i64 [0, %outer], [%s1, %inner]
{carry}
  %i = add i64 %base, %s
  %pa = getelementptr {block}, ptr %a, i64 %i
  %pb = getelementptr {block}, ptr %b, i64 %i
{step}
  %s1 = add i64 %s, 1
  %again = icmp ult i64 %s1, %steps
  br i1 %again, label %inner, label %store
store:
  %pd = getelementptr {block}, ptr %d, i64 %g
{save}
  %g1 = add i64 %g, 1
  %more = icmp ult i64 %g1, %groups
  br i1 %more, label %outer, label %end
end:
{leave}
  ret void
}}
attributes #0 = {{ "target-features"="{features}" }}
"""
_TILES = """
declare void @llvm.x86.ldtilecfg(ptr)
declare void @llvm.x86.tilerelease()
declare void @llvm.x86.tileloadd64(i8, ptr, i64)
declare void @llvm.x86.tilestored64(i8, ptr, i64)
declare void @llvm.x86.{name}(i8, i8, i8)
"""


def intermediate_code(instruction: Instruction) -> str:
    """LLVM code of `run(a, b, c, d, tiles, groups, steps)`.

    For each group, one accumulator is loaded from c, `steps` instructions add to it the operand
    blocks of a and b, and it is stored to d. `tiles` is the 64-byte tile configuration.
    """
    if instruction.assembly is None:
        call = "  call void @llvm.x86."
        return _TILES.format(name=instruction.name) + _LOOP.format(
            block=f"[{TILE_BYTES * TILE_ROWS} x i8]",
            enter=f"{call}ldtilecfg(ptr %tiles)",
            carry="",
            load=f"{call}tileloadd64(i8 0, ptr %pc, i64 {TILE_BYTES})",
            step=f"{call}tileloadd64(i8 1, ptr %pa, i64 {TILE_BYTES})\n"
            f"{call}tileloadd64(i8 2, ptr %pb, i64 {TILE_BYTES})\n"
            f"{call}{instruction.name}(i8 0, i8 1, i8 2)",
            save=f"{call}tilestored64(i8 0, ptr %pd, i64 {TILE_BYTES})",
            leave=f"{call}tilerelease()",
            features=instruction.features,
        )
    kind = f"<{instruction.lanes} x i{get_format(instruction.output).bits}>"
    return _LOOP.format(
        block=kind,
        enter="",
        load=f"  %start = load {kind}, ptr %pc, align 1",
        carry=f"  %acc = phi {kind} [%start, %outer], [%sum, %inner]",
        step=f"  %va = load {kind}, ptr %pa, align 1\n  %vb = load {kind}, ptr %pb, align 1\n"
        f'  %sum = call {kind} asm "{instruction.assembly} $2, $1, $0", "=v,v,v,0"'
        f"({kind} %va, {kind} %vb, {kind} %acc)",
        save=f"  store {kind} %sum, ptr %pd, align 1",
        leave="",
        features=instruction.features,
    )


@cache
def machine_code(instruction: Instruction) -> tuple[str, bytes]:
    """The assembly and the object file for x86-64, whatever this processor is."""
    import llvmlite.binding as llvm

    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    llvm.initialize_native_asmparser()
    module = llvm.parse_assembly(intermediate_code(instruction))
    module.verify()
    machine = llvm.Target.from_triple(TRIPLE).create_target_machine(opt=2)
    return str(machine.emit_assembly(module)), bytes(machine.emit_object(module))
