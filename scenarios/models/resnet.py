"""A small residual network of 3 x 3 convolutions with batch normalisation.

Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv
1512.03385: basic blocks, the first of each later stage halves the image, a 1 x 1 convolution
where the shape changes; the stem of its CIFAR networks, one 3 x 3 convolution.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from ...simulator.tables import Row
from ..data import Examples
from .blocks import Classes, Count, fill_linear, too_few


class ResnetSpec(Row):
    """The `[model]` table of a scenario that trains a residual network.

    Attributes:
        widths: channels of each stage.
        blocks: basic blocks in each stage.
    """

    kind: Literal["resnet"] = "resnet"
    channels: Count = 1
    widths: tuple[Count, ...] = (16, 32)
    blocks: Count = 1
    classes: Classes = 10

    def refusal(self, data: Examples) -> str:
        """Why the model cannot learn these examples; "" if it can."""
        if len(data.shape) != 3 or data.objective != "classification":
            return f"a resnet classifies images, not {data.what}: choose another kind of model"
        if data.shape[0] != self.channels:
            return f"the model's channels = {self.channels} do not fit: set {data.shape[0]}"
        return too_few(self.classes, data)


class BasicBlock(nn.Module):
    """relu(norm(conv(relu(norm(conv x)))) + shortcut x)."""

    def __init__(self, inside: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, width, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.shortcut = nn.Sequential()
        if stride != 1 or inside != width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inside, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        inner = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu(self.norm2(self.conv2(inner)) + self.shortcut(x))


class Resnet(nn.Module):
    """Images (batch, channels, height, width) to class scores (batch, classes)."""

    def __init__(self, spec: ResnetSpec) -> None:
        super().__init__()
        self.stem = nn.Conv2d(spec.channels, spec.widths[0], 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(spec.widths[0])
        stages, inside = [], spec.widths[0]
        for stage, width in enumerate(spec.widths):
            for block in range(spec.blocks):
                stages.append(BasicBlock(inside, width, 2 if stage and not block else 1))
                inside = width
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(inside, spec.classes)

    def forward(self, images: Tensor) -> Tensor:
        x = self.stages(torch.relu(self.norm(self.stem(images))))
        scores: Tensor = self.head(x.mean(dim=(2, 3)))
        return scores


def build_resnet(spec: ResnetSpec, seed: int) -> Resnet:
    """Convolutions and classifier as `fill_linear`, norms one and zero, the classifier zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        model = Resnet(spec)
    model.to_empty(device="cpu")
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            fill_linear(module, generator)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
    nn.init.zeros_(model.head.weight)
    return model
