"""Small networks with the convolutions that gradient filtering must tell apart."""

from __future__ import annotations

import torch
from torch import nn


class Mixed(nn.Module):
    """3x3, strided, depthwise, dilated, 1x7 and 1x1 convolutions, some with bias, one used twice, a residual sum.

    Images (3, 18, 18): the maps are 18x18 and, after the stride, 9x9.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.deep = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.strided = nn.Conv2d(8, 12, 3, stride=2, padding=1, bias=False)
        self.dilated = nn.Conv2d(12, 12, 3, padding=2, dilation=2)
        self.wide = nn.Conv2d(12, 12, (1, 7), padding=(0, 3), bias=False)
        self.point = nn.Conv2d(12, 12, 1)
        self.fc = nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x))
        x = torch.relu(self.strided(x + self.deep(x)))
        x = torch.relu(self.wide(self.dilated(x)))
        x = x + self.point(torch.relu(self.point(x)))
        return self.fc(x.mean((2, 3)))


class Shuffled(nn.Module):
    """Two convolutions around a channel shuffle, which views and copies the gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return torch.relu(self.second(x)).mean((2, 3))


class Unfilterable(nn.Module):
    """Convolutions that gradient filtering refuses; images (3, 12, 12)."""

    def __init__(self) -> None:
        super().__init__()
        self.uneven = nn.Conv2d(3, 4, 3, padding=(2, 1), dilation=(2, 1))
        self.grouped = nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.valid = nn.Conv2d(4, 4, 3)
        self.up = nn.ConvTranspose2d(4, 4, 2, stride=2)
        self.line = nn.Conv1d(4, 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.up(self.valid(self.grouped(self.uneven(x))))
        return self.line(x.mean(3)).mean(2)
