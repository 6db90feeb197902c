"""Attention that a program asks for as one fused operation, by the products of its math form."""

import math

import torch
from torch import Tensor

from ..operations import register_op


@register_op("_scaled_dot_product_flash_attention_for_cpu")
def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    dropout: float = 0.0,
    causal: bool = False,
    *,
    attn_mask: Tensor | None = None,
    scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    """softmax(scale q k^T + mask) v, and the softmax in the place of its logarithms of sums.

    q (N, H, L, E); k, v (N, H or fewer, S, E); the result is laid out as (N, L, H, E).
    """
    out, weights = torch.ops.aten._scaled_dot_product_attention_math(
        q, k, v, attn_mask, dropout, causal, scale=scale, enable_gqa=q.shape[1] != k.shape[1]
    )
    return out.transpose(1, 2).contiguous().transpose(1, 2), weights


@register_op("_scaled_dot_product_flash_attention_for_cpu_backward")
def attention_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    weights: Tensor,
    dropout: float,
    causal: bool,
    *,
    attn_mask: Tensor | None = None,
    scale: float | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """dv = p^T g; ds = p (g v^T) - p sum(p (g v^T)); dq = scale ds k, dk = scale ds^T q.

    The scale is applied as its square root on either side of a product, as in the forward pass.
    """
    root = math.sqrt(scale if scale is not None else 1 / math.sqrt(q.shape[-1]))
    shared = q.shape[1] // k.shape[1]
    if shared > 1:
        k, v = (x.repeat_interleave(shared, 1) for x in (k, v))
    dv = weights.mT @ grad
    weighted = (grad @ v.mT) * weights
    scores = weighted - weights * torch.sum(weighted, -1, keepdim=True)
    dq = (scores @ (k * root)) * root
    dk = (scores.mT @ (q * root)) * root
    if shared > 1:
        dk, dv = (x.reshape(x.shape[0], -1, shared, *x.shape[2:]).sum(2) for x in (dk, dv))
    return dq, dk, dv
