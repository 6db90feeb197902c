"""The models a scenario can train: one specification and one builder for each kind.

A new model is a module beside this page, one row in `MODELS`, and its specification joined to
`ModelSpec` (a pydantic union told apart by `kind`).
"""

from collections.abc import Callable

from torch import nn

from .vit import VisionTransformer, VitSpec, build_vit

ModelSpec = VitSpec

#: `kind` of the specification -> builder(specification, seed).
MODELS: dict[str, Callable[[ModelSpec, int], nn.Module]] = {"vit": build_vit}


def build_model(spec: ModelSpec, seed: int) -> nn.Module:
    """The model that `spec` describes, its initial weights a function of `seed` alone."""
    return MODELS[spec.kind](spec, seed)


__all__ = ["MODELS", "ModelSpec", "VisionTransformer", "VitSpec", "build_model"]
