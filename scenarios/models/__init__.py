"""The models a scenario can train: one specification and one builder for each kind.

A new model is a module beside this page, one row in `MODELS`, and its specification joined to
`ModelSpec`.
"""

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import Field
from torch import nn

from .gpt import Gpt, GptSpec, build_gpt
from .imported import ImportSpec, build_imported
from .mlp import Mlp, MlpSpec, build_mlp
from .quadratic import Quadratic, QuadraticModel, build_quadratic
from .resnet import Resnet, ResnetSpec, build_resnet
from .vit import VisionTransformer, VitSpec, build_vit

AnyModelSpec = VitSpec | GptSpec | MlpSpec | ResnetSpec | QuadraticModel | ImportSpec
ModelSpec = Annotated[AnyModelSpec, Field(discriminator="kind")]

#: `kind` of the specification -> builder(specification, seed).
MODELS: dict[str, Callable[[Any, int], nn.Module]] = {
    "vit": build_vit,
    "gpt": build_gpt,
    "mlp": build_mlp,
    "resnet": build_resnet,
    "quadratic": build_quadratic,
    "import": build_imported,
}


def build_model(spec: AnyModelSpec, seed: int) -> nn.Module:
    """The model that `spec` describes, its initial weights a function of `seed` alone."""
    return MODELS[spec.kind](spec, seed)


def model_inputs(spec: AnyModelSpec) -> dict[str, Any]:
    """The table, and a digest of the sources of a model of the user's own."""
    table = spec.model_dump(mode="json")
    return table | {"sha256": spec.digest()} if isinstance(spec, ImportSpec) else table


__all__ = [
    "MODELS",
    "AnyModelSpec",
    "Gpt",
    "GptSpec",
    "ImportSpec",
    "Mlp",
    "MlpSpec",
    "ModelSpec",
    "Quadratic",
    "QuadraticModel",
    "Resnet",
    "ResnetSpec",
    "VisionTransformer",
    "VitSpec",
    "build_model",
    "model_inputs",
]
