"""Matrix products on the units of chips against torch.mm in float32."""

from functools import partial

import numpy as np
import torch
from rich.table import Table

from tapeout.formats import quantize
from tapeout.simulator import load_chip

from .timing import ratio

UNITS = [
    ("nvidia-h100", "e4m3", "float32", "wgmma"),
    ("nvidia-h100", "e4m3", "float32", "mma.sync"),
    ("nvidia-h100", "bfloat16", "float32", None),
    ("nvidia-a100", "bfloat16", "float32", None),
    ("intel-sapphire-rapids", "bfloat16", "float32", "tdpbf16ps"),
    ("intel-sapphire-rapids", "int8", "int32", None),
    ("generic-fp8-sr", "e4m3", "bfloat16", None),
    ("generic-int4", "int4", "int32", None),
    ("ieee-float32", "float32", "float32", None),
]


def products(table: Table) -> None:
    """512 x 512 x 512 against torch.mm in float32."""
    rng = np.random.default_rng(0)
    for chip, fmt, output, instruction in UNITS:
        unit = load_chip(chip).matrix_unit(fmt, fmt, output, instruction)
        a, b = (
            quantize(rng.standard_normal((512, 512)).astype(np.float32), unit.a) for _ in range(2)
        )
        ta, tb = torch.from_numpy(a), torch.from_numpy(b)
        product = partial(unit.matmul, a, b, check=False)
        times, seconds = ratio(product, partial(torch.mm, ta, tb))
        name = f"{chip} {fmt} {instruction or ''}".strip()
        table.add_row(name, "torch.mm", f"{times:.1f}", f"{512**3 / seconds / 1e6:,.0f} M MAC/s")
