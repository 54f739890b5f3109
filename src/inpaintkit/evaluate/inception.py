"""Inception v3 (Szegedy et al. 2016) as FID uses it: converted from the TensorFlow graph of 2015, with that graph's pooling.

State dict keys are those of the public PyTorch conversion; the classifier is left out.
"""

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

SIDE = 299
"""Pixels of each side that the network takes."""
Size = int | tuple[int, int]


class Convolution(nn.Module):
    """Convolution without bias, batch norm, ReLU. Keeps the size unless it has a stride, or `valid` positions only."""

    def __init__(self, inputs: int, outputs: int, size: Size, stride: int = 1, valid: bool = False):
        super().__init__()
        high, wide = (size, size) if isinstance(size, int) else size
        padding = (0, 0) if valid or stride == 2 else (high // 2, wide // 2)
        self.conv = nn.Conv2d(inputs, outputs, size, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


def average(x: Tensor) -> Tensor:
    """3x3 means that leave the padding out, as the converted graph does (torchvision's network counts it in)."""
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


class A(nn.Module):
    """The 35x35 block."""

    def __init__(self, inputs: int, pooled: int):
        super().__init__()
        self.branch1x1 = Convolution(inputs, 64, 1)
        self.branch5x5_1, self.branch5x5_2 = Convolution(inputs, 48, 1), Convolution(48, 64, 5)
        self.branch3x3dbl_1, self.branch3x3dbl_2, self.branch3x3dbl_3 = (
            Convolution(inputs, 64, 1),
            Convolution(64, 96, 3),
            Convolution(96, 96, 3),
        )
        self.branch_pool = Convolution(inputs, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), self.branch5x5_2(self.branch5x5_1(x)), double, self.branch_pool(average(x))], 1)


class B(nn.Module):
    """35x35 to 17x17."""

    def __init__(self, inputs: int):
        super().__init__()
        self.branch3x3 = Convolution(inputs, 384, 3, 2)
        self.branch3x3dbl_1, self.branch3x3dbl_2, self.branch3x3dbl_3 = (
            Convolution(inputs, 64, 1),
            Convolution(64, 96, 3),
            Convolution(96, 96, 3, 2),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.branch3x3(x), self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x))), F.max_pool2d(x, 3, 2)], 1)


class C(nn.Module):
    """The 17x17 block, its convolutions split into 1x7 and 7x1."""

    def __init__(self, inputs: int, width: int):
        super().__init__()
        self.branch1x1 = Convolution(inputs, 192, 1)
        single: list[tuple[int, int, Size]] = [(inputs, width, 1), (width, width, (1, 7)), (width, 192, (7, 1))]
        for i, (a, b, size) in enumerate(single, 1):
            setattr(self, f"branch7x7_{i}", Convolution(a, b, size))
        double: list[tuple[int, int, Size]] = [
            (inputs, width, 1),
            (width, width, (7, 1)),
            (width, width, (1, 7)),
            (width, width, (7, 1)),
            (width, 192, (1, 7)),
        ]
        for i, (a, b, size) in enumerate(double, 1):
            setattr(self, f"branch7x7dbl_{i}", Convolution(a, b, size))
        self.branch_pool = Convolution(inputs, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        single, double = x, x
        for i in range(1, 4):
            single = self.get_submodule(f"branch7x7_{i}")(single)
        for i in range(1, 6):
            double = self.get_submodule(f"branch7x7dbl_{i}")(double)
        return torch.cat([self.branch1x1(x), single, double, self.branch_pool(average(x))], 1)


class D(nn.Module):
    """17x17 to 8x8."""

    def __init__(self, inputs: int):
        super().__init__()
        self.branch3x3_1, self.branch3x3_2 = Convolution(inputs, 192, 1), Convolution(192, 320, 3, 2)
        long: list[tuple[int, Size, int]] = [(inputs, 1, 1), (192, (1, 7), 1), (192, (7, 1), 1), (192, 3, 2)]
        for i, (a, size, stride) in enumerate(long, 1):
            setattr(self, f"branch7x7x3_{i}", Convolution(a, 192, size, stride))

    def forward(self, x: Tensor) -> Tensor:
        long = x
        for i in range(1, 5):
            long = self.get_submodule(f"branch7x7x3_{i}")(long)
        return torch.cat([self.branch3x3_2(self.branch3x3_1(x)), long, F.max_pool2d(x, 3, 2)], 1)


class E(nn.Module):
    """The 8x8 block. The last one of the converted graph pools by the maximum."""

    def __init__(self, inputs: int, by_maximum: bool):
        super().__init__()
        self.by_maximum = by_maximum
        self.branch1x1 = Convolution(inputs, 320, 1)
        self.branch3x3_1 = Convolution(inputs, 384, 1)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = Convolution(inputs, 448, 1), Convolution(448, 384, 3)
        self.branch3x3_2a, self.branch3x3_2b = Convolution(384, 384, (1, 3)), Convolution(384, 384, (3, 1))
        self.branch3x3dbl_3a, self.branch3x3dbl_3b = Convolution(384, 384, (1, 3)), Convolution(384, 384, (3, 1))
        self.branch_pool = Convolution(inputs, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        single, double = self.branch3x3_1(x), self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        sides = [self.branch3x3_2a(single), self.branch3x3_2b(single), self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double)]
        pooled = F.max_pool2d(x, 3, 1, 1) if self.by_maximum else average(x)
        return torch.cat([self.branch1x1(x), *sides, self.branch_pool(pooled)], 1)


class Inception(nn.Module):
    """Input `(B, 3, 299, 299)` in [-1, 1], made by `clean`; returns the pooled features `(B, 2048)`."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3, self.Conv2d_2a_3x3 = Convolution(3, 32, 3, 2), Convolution(32, 32, 3, valid=True)
        self.Conv2d_2b_3x3, self.Conv2d_3b_1x1 = Convolution(32, 64, 3), Convolution(64, 80, 1)
        self.Conv2d_4a_3x3 = Convolution(80, 192, 3, valid=True)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d, self.Mixed_6a = A(192, 32), A(256, 64), A(288, 64), B(288)
        self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = C(768, 128), C(768, 160), C(768, 160), C(768, 192)
        self.Mixed_7a, self.Mixed_7b, self.Mixed_7c = D(768), E(1280, False), E(2048, True)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x))), 3, 2)
        x = F.max_pool2d(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)), 3, 2)
        for name, block in self.named_children():
            x = block(x) if name.startswith("Mixed") else x
        return x.mean((2, 3))


def clean(picture: Tensor) -> Tensor:
    """A picture `(3, H, W)` in [-1, 1] as the network takes it: Pillow's bicubic, which does not alias, for each channel in float32,
    then clipped (Parmar et al. 2022, "clean FID"). Rounding to bytes between, as with other resizing, moves the metric."""
    channels = [
        np.asarray(Image.fromarray(channel.numpy()).resize((SIDE, SIDE), Image.Resampling.BICUBIC)) for channel in picture.float().cpu()
    ]
    return torch.from_numpy(np.stack(channels)).clamp(-1, 1)
