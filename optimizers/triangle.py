"""A Cholesky factor and its quantisation error in one packed matrix.

The strictly lower triangle holds the codes of C + E, the strictly upper one those of the new E
transposed, the float32 vector beside them the diagonal of C: one matrix of codes, as for the
statistics themselves.

Source: Li, Ding, Toh, Zhou, "Memory-Efficient 4-bit Preconditioned Stochastic Optimization",
arXiv 2412.10663: the two triangles are in its abstract, how they share scales is not.
"""

import torch
from torch import Tensor

from ..formats.packing import pack_nibbles, unpack_nibbles
from .codec import RowCodec, Stored


def begin_triangle(factor: Tensor, codec: RowCodec, separate: bool) -> Stored:
    """The given C, (n, n) lower triangular, and E = 0."""
    return store_triangle(factor, torch.zeros_like(factor), 0.0, codec, separate)


def store_triangle(
    factor: Tensor, error: Tensor, error_beta: float, codec: RowCodec, separate: bool
) -> Stored:
    """Quantise C + E and carry E on: E ← βₑ·E + (1 − βₑ)·(C + E − Q(C + E)).

    Args:
        factor: C, lower triangular, (n, n) float32. Its diagonal is kept as it is.
        error: E before, strictly lower triangular.
        error_beta: βₑ.
        separate: False gives C and E the scales of their common row blocks, the larger of the
            two where a block holds both; the error is then that of C + E at its own scales,
            which differ only where E is the larger. True adds a scale per row for E in the
            block that the diagonal cuts, so that no two numbers share a scale across it.
    """
    lower = factor.tril(-1) + error
    own = codec.scales(lower)
    codes = codec.codes(lower, own)
    new_error = error_beta * error + (1 - error_beta) * (lower - codec.values(codes, own))
    upper = new_error.T.contiguous()
    theirs = codec.scales(upper)
    stored = {"diagonal": factor.diagonal().clone()}
    if separate:
        blocks, cut = _blocks(own, codec.block)
        stored["scales"] = torch.where(blocks > cut, theirs, own)
        stored["cut_scales"] = theirs.gather(1, cut).squeeze(1)
    else:
        stored["scales"] = torch.maximum(own, theirs)
    packed = codec.codes(lower + upper, element_scales(stored, codec))
    return stored | {"codes": pack_nibbles(packed)}


def restore_triangle(stored: Stored, codec: RowCodec) -> tuple[Tensor, Tensor]:
    """C with its diagonal, and E: lower and strictly lower triangular, (n, n) float32."""
    order = len(stored["diagonal"])
    codes = unpack_nibbles(stored["codes"], order)
    both = codec.values(codes, element_scales(stored, codec))
    return both.tril(-1) + torch.diag(stored["diagonal"]), both.triu(1).T.contiguous()


def element_scales(stored: Stored, codec: RowCodec) -> Tensor:
    """The scale of every element of the packed matrix, (n, n)."""
    order = len(stored["diagonal"])
    scales = codec.spread(stored["scales"], order)
    if "cut_scales" not in stored:
        return scales
    blocks, cut = _blocks(stored["scales"], codec.block)
    in_cut_block = codec.spread(blocks == cut, order)
    above = torch.ones_like(in_cut_block).triu(1)
    return torch.where(in_cut_block & above, stored["cut_scales"].unsqueeze(1), scales)


def _blocks(scales: Tensor, block: int) -> tuple[Tensor, Tensor]:
    """The numbers of a row's blocks (1, blocks), and of the one the diagonal cuts (n, 1)."""
    rows, blocks = scales.shape
    numbers = torch.arange(max(rows, blocks), device=scales.device)
    return numbers[:blocks].unsqueeze(0), numbers[:rows].unsqueeze(1) // block
