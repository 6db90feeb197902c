"""The programs: a model from a seed, its loss on a fixed batch, its matrix products by hand.

GPT-2 and the Vision Transformer are those of the transformers library, built from a configuration
without a download; the residual network and the recurrent one are plain torch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import GPT2Config, GPT2LMHeadModel, ViTConfig, ViTForImageClassification

from .resnet import ResNet


class Counts(NamedTuple):
    """Matrix products of one module in one training step."""

    fprop: int
    dgrad: int
    wgrad: int


#: y = x w forward, dx = g w and dw = x g backward.
LAYER = Counts(1, 1, 1)
#: A layer whose input is data: nobody asks for dx.
FIRST = Counts(1, 0, 1)
#: s = q k and o = p v forward; dp = g v, dv = p g, dq = ds k, dk = ds q backward.
ATTENTION = Counts(2, 4, 0)


@dataclass(frozen=True)
class Program:
    """A model and what it is trained on.

    Attributes:
        build: the model, its weights drawn from seed 0.
        loss: of the model on the program's only batch.
        products: matrix products of one step, module by module.
    """

    build: Callable[[], nn.Module]
    loss: Callable[[nn.Module], Tensor]
    products: dict[str, Counts]


def gpt2(width: int = 16, layers: int = 2, heads: int = 2, vocabulary: int = 32) -> nn.Module:
    """transformers' GPT-2, but for its size as published; its head is the embedding's weight."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=vocabulary, n_positions=128, n_embd=width, n_layer=layers, n_head=heads,
        bos_token_id=0, eos_token_id=0, use_cache=False,
        embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0,
    )  # fmt: skip
    return GPT2LMHeadModel(config)


def next_token_loss(model: nn.Module) -> Tensor:
    """Four sequences of eight tokens; the model predicts the next token of each position."""
    tokens = torch.arange(32).reshape(4, 8) * 7 % 32
    return model(input_ids=tokens, labels=tokens).loss  # type: ignore[no-any-return]


def gpt2_products(layers: int) -> dict[str, Counts]:
    """Four projections and one attention a layer, and the head."""
    products = {"lm_head": LAYER}
    for i in range(layers):
        block = f"transformer.h.{i}"
        products[f"{block}.attn"] = ATTENTION
        for name in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"):
            products[f"{block}.{name}"] = LAYER
    return products


def vit() -> nn.Module:
    """transformers' Vision Transformer on images of 8 x 8 in patches of 4 x 4."""
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        image_size=8, patch_size=4, num_channels=3, num_labels=4,  # type: ignore[call-arg]
    )  # fmt: skip
    return ViTForImageClassification(config)


def vit_products(layers: int) -> dict[str, Counts]:
    """Patches by a convolution of the image; six projections and one attention a layer."""
    products = {"vit.embeddings.patch_embeddings.projection": FIRST, "classifier": LAYER}
    for i in range(layers):
        block = f"vit.layers.{i}"
        products[f"{block}.attention"] = ATTENTION
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            products[f"{block}.attention.{name}"] = LAYER
        for name in ("fc1", "fc2"):
            products[f"{block}.mlp.{name}"] = LAYER
    return products


def images(size: int) -> tuple[Tensor, Tensor]:
    """Eight random images in four classes."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(8, 3, size, size, generator=generator), torch.arange(8) % 4


def vit_loss(model: nn.Module) -> Tensor:
    """Cross entropy, computed by the library."""
    x, y = images(8)
    return model(pixel_values=x, labels=y).loss  # type: ignore[no-any-return]


def resnet() -> nn.Module:
    """Two basic blocks, the second with stride and a projection as its shortcut."""
    torch.manual_seed(0)
    return ResNet()


def resnet_loss(model: nn.Module) -> Tensor:
    """Cross entropy of images of 16 x 16."""
    x, y = images(16)
    return F.cross_entropy(model(x), y)


PROGRAMS = {
    "gpt2": Program(gpt2, next_token_loss, gpt2_products(2)),
    "vit": Program(vit, vit_loss, vit_products(2)),
    "resnet": Program(
        resnet,
        resnet_loss,
        {
            "conv1": FIRST,
            "layers.0.0.conv1": LAYER,
            "layers.0.0.conv2": LAYER,
            "layers.1.0.conv1": LAYER,
            "layers.1.0.conv2": LAYER,
            "layers.1.0.downsample.0": LAYER,
            "fc": LAYER,
        },
    ),
}
