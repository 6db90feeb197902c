"""Operations that ordinary training programs call, each as a function of one tensor."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Case = tuple[Callable[[Tensor], Tensor], Tensor]
_generator = torch.Generator().manual_seed(0)


def _random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=_generator)


_TARGET = torch.randint(0, 5, (7,), generator=_generator)
_ROWS = _TARGET[:3, None].expand(3, 4)
_IMAGE = _random(2, 6, 8, 8)
_VOLUME = _random(1, 2, 4, 4, 4)
_CLASSES = torch.tensor([0.5, 1.0, 2.0, 0.25, 1.5])


def _like(x: Tensor, *values: float) -> Tensor:
    return torch.tensor(values, dtype=x.dtype)


def _ones(x: Tensor, *shape: int) -> Tensor:
    return torch.ones(shape, dtype=x.dtype)


def _named(name: str) -> Callable[[Tensor], Tensor]:
    return lambda x: getattr(F, name)(x)


_ACTIVATIONS = (
    "gelu silu elu selu celu leaky_relu mish hardswish hardsigmoid hardtanh relu6 softplus "
    "logsigmoid softsign tanhshrink softshrink hardshrink relu sigmoid tanh"
).split()

ACTIVATIONS: dict[str, Case] = {
    **{name: (_named(name), _random(40) * 3) for name in _ACTIVATIONS},
    "gelu_tanh": (lambda x: F.gelu(x, approximate="tanh"), _random(40)),
    "glu": (lambda x: F.glu(x, -1), _random(4, 10)),
    "prelu": (lambda x: F.prelu(x, _like(x, 0.25)), _random(3, 4)),
    "softmax": (lambda x: F.softmax(x, -1), _random(5, 9)),
    "log_softmax": (lambda x: F.log_softmax(x, 0), _random(5, 9)),
    "dropout": (lambda x: F.dropout(x, 0.0), _random(5, 9)),
}

NORMALISATIONS: dict[str, Case] = {
    "layer_norm": (
        lambda x: F.layer_norm(x, (9,), 1.5 * _ones(x, 9), _ones(x, 9)),
        _random(4, 9),
    ),
    "rms_norm": (lambda x: F.rms_norm(x, (9,), 1.5 * _ones(x, 9)), _random(4, 9)),
    "group_norm": (lambda x: F.group_norm(x, 3, 1.5 * _ones(x, 6), _ones(x, 6)), _IMAGE),
    "instance_norm": (F.instance_norm, _IMAGE),
    "batch_norm": (
        lambda x: F.batch_norm(x, 0 * _ones(x, 6), _ones(x, 6), 2 * _ones(x, 6), _ones(x, 6), True),
        _IMAGE,
    ),
    "batch_norm_eval": (
        lambda x: F.batch_norm(x, 0 * _ones(x, 6), _ones(x, 6), 2 * _ones(x, 6), _ones(x, 6)),
        _IMAGE,
    ),
    "weight_norm": (lambda x: torch.ops.aten._weight_norm(x, _ones(x, 7, 1)), _random(7, 3)),
    "normalize": (F.normalize, _random(3, 7)),
}

LOSSES: dict[str, Case] = {
    "mse": (lambda x: F.mse_loss(x, _ones(x, 7)), _random(7)),
    "mse_none": (lambda x: F.mse_loss(x, _ones(x, 7), reduction="none"), _random(7)),
    "l1": (lambda x: F.l1_loss(x, _ones(x, 7)), _random(7)),
    "smooth_l1": (lambda x: F.smooth_l1_loss(x, _ones(x, 7), beta=0.5), _random(7)),
    "huber": (lambda x: F.huber_loss(x, _ones(x, 7), delta=0.5), _random(7)),
    "cross_entropy": (lambda x: F.cross_entropy(x, _TARGET), _random(7, 5)),
    "cross_entropy_weighted": (
        lambda x: F.cross_entropy(
            x, _TARGET, _CLASSES.to(x.dtype), ignore_index=2, label_smoothing=0.1
        ),
        _random(7, 5),
    ),
    "cross_entropy_none": (
        lambda x: F.cross_entropy(x, _TARGET, reduction="none"),
        _random(7, 5),
    ),
    "cross_entropy_image": (
        lambda x: F.cross_entropy(x, _TARGET[:4].reshape(1, 2, 2), ignore_index=1),
        _random(1, 5, 2, 2),
    ),
    "binary": (lambda x: F.binary_cross_entropy(torch.sigmoid(x), 0.5 * _ones(x, 7)), _random(7)),
    "binary_logits": (
        lambda x: F.binary_cross_entropy_with_logits(
            x, 0.5 * _ones(x, 7), pos_weight=_like(x, 2.0)
        ),
        _random(7),
    ),
    "kl_div": (
        lambda x: F.kl_div(F.log_softmax(x, -1), 0.25 * _ones(x, 5, 4), reduction="batchmean"),
        _random(5, 4),
    ),
    "poisson": (lambda x: F.poisson_nll_loss(x, _ones(x, 7)), _random(7)),
    "gaussian": (lambda x: F.gaussian_nll_loss(x, _ones(x, 7), _ones(x, 7)), _random(7)),
    "soft_margin": (lambda x: F.soft_margin_loss(x, _ones(x, 7)), _random(7)),
    "hinge": (lambda x: F.hinge_embedding_loss(x, _ones(x, 7)), _random(7)),
    "cosine": (
        lambda x: F.cosine_embedding_loss(x, _ones(x, 3, 7), _ones(x, 3)),
        _random(3, 7),
    ),
    "triplet": (
        lambda x: F.triplet_margin_loss(x, _ones(x, 3, 7), 0 * _ones(x, 3, 7)),
        _random(3, 7),
    ),
}

ARITHMETIC: dict[str, Case] = {
    "lerp": (lambda x: torch.lerp(x, x * 2, 0.3), _random(7)),
    "addcmul": (lambda x: torch.addcmul(x, x, x, value=0.3), _random(7)),
    "addcdiv": (lambda x: torch.addcdiv(x, x, x + 9, value=0.3), _random(7)),
    "addr": (lambda x: torch.addr(_ones(x, 7, 7), x, x, alpha=0.5), _random(7)),
    "alpha": (lambda x: torch.add(x, x * x, alpha=0.3) - torch.rsub(x, x, alpha=3), _random(7)),
    "powers": (lambda x: x**3 + x.abs() ** 0.3 + 2**x, _random(7)),
    "two_argument": (
        lambda x: torch.atan2(x, x + 1) + torch.hypot(x, x + 1) + torch.logaddexp(x, x + 1),
        _random(7),
    ),
    "xlogy": (lambda x: torch.xlogy(x.abs(), x.abs()), _random(7)),
    "logit": (lambda x: torch.logit(torch.sigmoid(x), 1e-3), _random(7)),
    "remainders": (lambda x: torch.fmod(x, 0.3) + torch.remainder(x, 0.3), _random(7)),
    "bounds": (lambda x: x.clamp(0 * _ones(x, 7), _ones(x, 7)) + x.clip(-1, 0.5), _random(7)),
    "choices": (lambda x: torch.where(x > 0, x, x * 2) + x.masked_fill(x > 0, 3.0), _random(7)),
    "extremes": (lambda x: x.max(0)[0] + x.max() + x.amin(0) + x.median(), _random(7, 2)),
    "sorted": (lambda x: x.sort()[0] * x.topk(2)[0].sum() + x.cummax(0)[0], _random(7)),
}

SUMS: dict[str, Case] = {
    "sums": (lambda x: x.sum(1) + x.mean(0).sum() + x.sum((0, 1)), _random(3, 9)),
    "cumsum": (lambda x: torch.cumsum(x, 1), _random(3, 9)),
    "cumprod": (lambda x: torch.cumprod(x, 1), _random(3, 5)),
    "logcumsumexp": (lambda x: torch.logcumsumexp(x, 1), _random(3, 9)),
    "prod": (lambda x: x.prod(1) + x.prod(), _random(3, 5)),
    "norms": (lambda x: x.norm() + x.norm(1, 0) + x.norm(3) + x.norm(torch.inf), _random(9, 2)),
    "variances": (lambda x: x.var(0) + x.std() + x.var(), _random(9, 2)),
    "logsumexp": (lambda x: x.logsumexp(-1), _random(3, 9)),
    "cdist": (lambda x: torch.cdist(x, x + 1) + torch.cdist(x, x + 1, p=1.0), _random(3, 9)),
    "similarity": (lambda x: F.cosine_similarity(x, _ones(x, 3, 7)), _random(3, 7)),
    "distance": (lambda x: F.pairwise_distance(x, _ones(x, 3, 7)), _random(3, 7)),
    "scatter_add": (
        lambda x: (0 * _ones(x, 5, 4)).scatter_add(0, _ROWS, x),
        _random(3, 4),
    ),
    "scatter_reduce": (
        lambda x: _ones(x, 5, 4).scatter_reduce(0, _ROWS, x, "sum", include_self=False),
        _random(3, 4),
    ),
    "index_add": (
        lambda x: (0 * _ones(x, 5, 4)).index_add(0, _TARGET[:3], x, alpha=2),
        _random(3, 4),
    ),
    "index_put": (
        lambda x: (0 * _ones(x, 5, 4)).index_put((_TARGET,), x, accumulate=True),
        _random(7, 4),
    ),
    "index": (lambda x: x[_TARGET] * x[:, [0, 1]][_TARGET].sum(), _random(7, 4)),
    "mask": (lambda x: x[x > 0] * 2, _random(7, 4)),
    "embedding": (lambda x: F.embedding(_TARGET, x, padding_idx=1), _random(7, 4)),
    "embedding_by_frequency": (
        lambda x: F.embedding(_TARGET, x, scale_grad_by_freq=True),
        _random(7, 4),
    ),
}

IMAGES: dict[str, Case] = {
    "max_pool1d": (lambda x: F.max_pool1d(x, 3, 2, 1), _random(2, 3, 9)),
    "max_pool2d": (lambda x: F.max_pool2d(x, 3, 2, 1), _IMAGE),
    "max_pool3d": (lambda x: F.max_pool3d(x, 2), _VOLUME),
    "avg_pool1d": (lambda x: F.avg_pool1d(x, 3, 2), _random(2, 3, 9)),
    "avg_pool2d": (lambda x: F.avg_pool2d(x, 3, 2, 1), _IMAGE),
    "avg_pool2d_ceil": (lambda x: F.avg_pool2d(x, 3, 2, 1, True, False), _IMAGE),
    "avg_pool2d_divisor": (lambda x: F.avg_pool2d(x, 2, divisor_override=3), _IMAGE),
    "avg_pool3d": (lambda x: F.avg_pool3d(x, 2), _VOLUME),
    "adaptive_avg": (lambda x: F.adaptive_avg_pool2d(x, (4, 2)), _IMAGE),
    "adaptive_avg_uneven": (lambda x: F.adaptive_avg_pool2d(x, (3, 5)), _IMAGE),
    "adaptive_avg_one": (lambda x: F.adaptive_avg_pool2d(x, 1), _IMAGE),
    "adaptive_max": (lambda x: F.adaptive_max_pool2d(x, 3), _IMAGE),
    "nearest": (lambda x: F.interpolate(x, size=(5, 11)), _IMAGE),
    "nearest_exact": (lambda x: F.interpolate(x, size=(5, 11), mode="nearest-exact"), _IMAGE),
    "bilinear": (lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), _IMAGE),
    "bilinear_corners": (
        lambda x: F.interpolate(x, size=(5, 11), mode="bilinear", align_corners=True),
        _IMAGE,
    ),
    "bicubic": (lambda x: F.interpolate(x, size=(5, 11), mode="bicubic"), _IMAGE),
    "linear": (lambda x: F.interpolate(x, size=5, mode="linear"), _random(2, 3, 9)),
    "trilinear": (lambda x: F.interpolate(x, scale_factor=2, mode="trilinear"), _VOLUME),
    "reflect": (lambda x: F.pad(x, (1, 2, 2, 1), mode="reflect"), _IMAGE),
    "replicate": (lambda x: F.pad(x, (1, 2), mode="replicate"), _random(2, 3, 5)),
    "unfold": (lambda x: F.unfold(x, 3, padding=1), _IMAGE),
    "fold": (lambda x: F.fold(x, (6, 6), 3), _random(2, 18, 16)),
    "windows": (lambda x: x.unfold(0, 4, 2), _random(12, 2)),
}


def _cell(module: nn.Module) -> Callable[[Tensor], Tensor]:
    def run(x: Tensor) -> Tensor:
        out: Any = module.to(x.dtype)(x)
        while isinstance(out, tuple):
            out = out[0]
        return out  # type: ignore[no-any-return]

    return run


def _attention(x: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(x, x, x, is_causal=True)


with torch.random.fork_rng():
    torch.manual_seed(0)
    LAYERS: dict[str, Case] = {
        "lstm": (_cell(nn.LSTM(5, 4, 2)), _random(3, 2, 5)),
        "gru": (_cell(nn.GRU(5, 4)), _random(3, 2, 5)),
        "rnn": (_cell(nn.RNN(5, 4, bidirectional=True)), _random(3, 2, 5)),
        "lstm_cell": (_cell(nn.LSTMCell(5, 4)), _random(2, 5)),
        "gru_cell": (_cell(nn.GRUCell(5, 4)), _random(2, 5)),
        "encoder": (_cell(nn.TransformerEncoderLayer(4, 2, 8).eval()), _random(3, 2, 4)),
        "attention": (_attention, _random(1, 2, 5, 4)),
        "einsum": (lambda x: torch.einsum("bij,bkj->bik", x, x), _random(2, 3, 4)),
    }

CASES: dict[str, Case] = {
    **ACTIVATIONS, **NORMALISATIONS, **LOSSES, **ARITHMETIC, **SUMS, **IMAGES, **LAYERS,
}  # fmt: skip
