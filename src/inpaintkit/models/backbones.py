"""Classifiers' feature parts as plain modules: of MobileNetV2, which the mask predictor is built on, and what all of them share."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F


class Maps(nn.Module):
    """A classifier's feature part, cut into stages: pictures `(B, 3, H, W)`, normalised as it was trained -> one map for each stage."""

    ends: Sequence[int]
    """Number of the layer after which each stage's map is taken."""
    widths: Sequence[int]
    """Channels of the maps."""

    def __init__(self, layers: Sequence[nn.Module], ends: Sequence[int], widths: Sequence[int]):
        super().__init__()
        self.features = nn.Sequential(*layers)
        self.ends, self.widths = tuple(ends), tuple(widths)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in self.ends:
                maps.append(x)
            if i == self.ends[-1]:
                break
        return maps


class Padded(nn.Module):
    """Convolution that pads as TensorFlow's "SAME": the odd pixel goes after, and how many depends on the picture's size."""

    def __init__(self, inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1, bounded: bool = True):
        super().__init__()
        even = size // 2 if stride == 1 else 0  # the same before and after, which the convolution does without a copy
        self.conv, self.bounded = nn.Conv2d(inputs, outputs, size, stride, even, groups=groups), bounded

    def forward(self, x: Tensor) -> Tensor:
        size, stride = self.conv.kernel_size[0], self.conv.stride[0]
        if stride > 1:
            short = [max((-(-n // stride) - 1) * stride + size - n, 0) for n in (x.shape[3], x.shape[2])]
            x = F.pad(x, [part for n in short for part in (n // 2, n - n // 2)])
        x = self.conv(x)
        return F.relu6(x) if self.bounded else x


class Inverted(nn.Module):
    """MobileNetV2's block: expand, filter each channel, project; added to its input where the shapes agree."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int):
        super().__init__()
        wide = inputs * expansion
        first = [Padded(inputs, wide, 1)] if expansion > 1 else []
        self.body = nn.Sequential(*first, Padded(wide, wide, 3, stride, wide), Padded(wide, outputs, 1, bounded=False))
        self.added = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.added else self.body(x)


def mobilenet_v2() -> Maps:
    """MobileNetV2 (Sandler et al. 2018, table 2), batch norms folded into the convolutions; pictures in [-1, 1].

    The first five maps are 1/2, 1/4, 1/8, 1/16 and 1/32 of the picture's size.
    """
    layers: list[nn.Module] = [Padded(3, 32, 3, 2)]
    inputs = 32
    for expansion, outputs, count, stride in (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
    ):  # fmt: skip
        for i in range(count):
            layers.append(Inverted(inputs, outputs, stride if i == 0 else 1, expansion))
            inputs = outputs
    return Maps([*layers, Padded(320, 1280, 1)], (1, 3, 6, 13, 17, 18), (16, 24, 32, 96, 320, 1280))
