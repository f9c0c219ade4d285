"""Vision transformer (Dosovitskiy et al. 2021) with the dimensions of DeiT-tiny (Touvron et al. 2021)."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from simulator.errors import TrainwattError
from workloads.catalog import network
from workloads.networks.widths import Widths


class Attention(nn.Module):
    """Self-attention of several heads, (N, tokens, width) to the same shape."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        # (N, tokens, 3 * width) to three of (N, heads, tokens, width / heads)
        query, key, value = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        x = F.scaled_dot_product_attention(query, key, value)
        return self.proj(x.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Two linear layers with GELU between them, (N, tokens, width) to the same shape."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class Block(nn.Module):
    """Attention and MLP, each normalised before and with a shortcut; (N, tokens, width) to the same shape."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, 4 * width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    """Maps images (N, 3, size, size) to logits (N, classes).

    The width of the only convolution, "patch_embed.proj", is that of all tokens; raises `TrainwattError`
    where `heads` do not divide it.
    """

    def __init__(
        self, widths: Widths, *, size: int, patch: int, width: int, depth: int, heads: int, classes: int
    ) -> None:
        super().__init__()
        proj = widths.conv("patch_embed.proj", 3, width, patch, patch, padding=0, bias=True)
        width = proj.out_channels
        if width % heads:
            raise TrainwattError(f"'patch_embed.proj' is {width} wide, not a multiple of the {heads} attention heads")
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + (size // patch) ** 2, width))
        self.patch_embed = nn.Sequential()
        self.patch_embed.add_module("proj", proj)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patch_embed(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        return self.head(self.norm(self.blocks(x))[:, 0])


@network(
    "vit-tiny",
    input_shape=(3, 224, 224),
    classes=1000,
    parameters=5_717_416,
    macs=1_253_683_200,
    source="Touvron et al. 2021 (DeiT-Ti): 5.7 M parameters; timm: 1.3 G MACs",
)
def vit_tiny(classes: int = 1000, widths: Mapping[str, int] | None = None, size: int = 224) -> VisionTransformer:
    """Build ViT-tiny for images (N, 3, size, size), `size` in pixels and a multiple of 16.

    Raises `TrainwattError` for another size and where `widths` do not fit.
    """
    if size < 16 or size % 16:
        raise TrainwattError(f"the image size of vit-tiny must be a multiple of 16 pixels, got {size}")
    table = Widths("vit-tiny", widths)
    return table.checked(VisionTransformer(table, size=size, patch=16, width=192, depth=12, heads=3, classes=classes))
