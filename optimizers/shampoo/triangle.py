"""A Cholesky factor in a packed triangle, alone or with its quantisation error in the other.

With the error, the strictly lower triangle holds the codes of C + E, the strictly upper one those
of the new E transposed, the float32 vector beside them the diagonal of C: one matrix of codes, as
for the statistics themselves. Without it the codes below the diagonal are one row, row after row
of the triangle, and only the scales of blocks that reach below the diagonal are kept.

Source: Li, Ding, Toh, Zhou, "Memory-Efficient 4-bit Preconditioned Stochastic Optimization",
arXiv 2412.10663: the two triangles are in its abstract, how they share scales is not.
"""

import torch
from torch import Tensor

from ...formats.packing import packed_bytes
from ..codec import RowCodec, Stored


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
    return stored | {"codes": codec.pack(packed)}


def restore_triangle(stored: Stored, codec: RowCodec) -> tuple[Tensor, Tensor]:
    """C with its diagonal, and E: lower and strictly lower triangular, (n, n) float32."""
    order = len(stored["diagonal"])
    codes = codec.unpack(stored["codes"], order)
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


def store_lower(factor: Tensor, codec: RowCodec) -> Stored:
    """Codes of what lies below the diagonal of C (n, n), its scales, and the diagonal."""
    lower = factor.tril(-1)
    scales = codec.scales(lower)
    codes = codec.codes(lower, scales)
    rows, columns = _below(len(factor), factor.device)
    used = _reaching(len(factor), codec, factor.device)
    return {
        "diagonal": factor.diagonal().clone(),
        "scales": scales[used[0], used[1]],
        "codes": codec.pack(codes[rows, columns].unsqueeze(0)),
    }


def restore_lower(stored: Stored, codec: RowCodec) -> Tensor:
    """C as `store_lower` kept it, lower triangular (n, n) float32."""
    diagonal = stored["diagonal"]
    order = len(diagonal)
    rows, columns = _below(order, diagonal.device)
    codes = codec.unpack(stored["codes"], len(rows)).squeeze(0)
    used = _reaching(order, codec, diagonal.device)
    blocks = -(-order // codec.block)
    square = codes.new_zeros(order * order).index_copy(0, rows * order + columns, codes)
    scales = diagonal.new_zeros(order * blocks)
    scales = scales.index_copy(0, used[0] * blocks + used[1], stored["scales"])
    values = codec.values(square.reshape(order, order), scales.reshape(order, blocks))
    return values.tril(-1) + torch.diag(diagonal)


def lower_bits(order: int, codec: RowCodec) -> int:
    """b·n(n − 1)/2 + 32·Σ⌈i/block⌉ + 32·n, without the padding of the last byte."""
    scales = sum(-(-i // codec.block) for i in range(order))
    return codec.book.bits * (order * (order - 1) // 2) + 32 * scales + 32 * order


def lower_bytes(order: int, codec: RowCodec) -> int:
    """What `store_lower` occupies."""
    codes = order * (order - 1) // 2
    scales = sum(-(-i // codec.block) for i in range(order))
    return packed_bytes(codes, codec.book.bits) + 4 * (scales + order)


def _below(order: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Row and column of every element below the diagonal, row after row."""
    rows, columns = torch.tril_indices(order, order, -1, device=device)
    return rows, columns


def _reaching(order: int, codec: RowCodec, device: torch.device) -> tuple[Tensor, Tensor]:
    """Row and number of every block that holds an element below the diagonal."""
    blocks = -(-order // codec.block)
    first = codec.block * torch.arange(blocks, device=device)
    rows, numbers = torch.nonzero(
        torch.arange(order, device=device).unsqueeze(1) > first, as_tuple=True
    )
    return rows, numbers
