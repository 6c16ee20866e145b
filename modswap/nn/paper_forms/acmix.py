"""ACmix step by step, as the paper has it: windows unfolded, convolution in two steps."""

import torch
from torch.nn.functional import pad, unfold

from modswap.nn.acmix import ACmix


def acmix(layer: ACmix, x: torch.Tensor) -> torch.Tensor:
    """Return the weighted sum of attention and convolution."""
    q, k, v = layer.conv1(x), layer.conv2(x), layer.conv3(x)
    attended = attention(layer, q, k, v)
    convolved = convolution(layer, q, k, v)
    out: torch.Tensor = layer.rate1 * attended + layer.rate2 * convolved
    return out


def attention(layer: ACmix, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Return the attention of each pixel to the window around it, (N, C, H', W')."""
    N, _, H, W = q.shape
    heads, D, s = layer.head, layer.head_dim, layer.stride
    position = layer.conv_p(coordinates(H, W, q))  # (1, D, H, W)
    near_k, near_v = windows(layer, k), windows(layer, v)  # (N, heads, D, window, H', W')
    near_position = windows(layer, position.repeat(1, heads, 1, 1))
    asked = q.view(N, heads, D, H, W)[..., ::s, ::s]  # (N, heads, D, H', W')
    own_position = position[:, None, :, ::s, ::s]  # (1, 1, D, H', W')
    keys = near_k + own_position[:, :, :, None] - near_position
    logits = torch.einsum("nhdyx,nhdwyx->nhwyx", asked, keys) * D**-0.5
    weights = logits.softmax(2)  # over the window
    attended = torch.einsum("nhwyx,nhdwyx->nhdyx", weights, near_v)
    return attended.flatten(1, 2)


def coordinates(height: int, width: int, like: torch.Tensor) -> torch.Tensor:
    """Return the place of each pixel from -1 to 1, across and down: (1, 2, H, W)."""
    down, across = (
        torch.linspace(-1, 1, side, dtype=like.dtype, device=like.device)
        if side > 1
        else like.new_full((1,), -1)
        for side in (height, width)
    )
    return torch.stack([across.expand(height, width), down[:, None].expand(height, width)])[None]


def windows(layer: ACmix, pixels: torch.Tensor) -> torch.Tensor:
    """Return the window around each query: (B, C, H, W) -> (B, heads, D, window, H', W')."""
    reach = layer.dilation * (layer.kernel_att // 2)
    padded = pad(pixels, [reach] * 4, mode="reflect")
    unfolded = unfold(padded, layer.kernel_att, layer.dilation, stride=layer.stride)
    rows, columns = (-(-side // layer.stride) for side in pixels.shape[2:])
    return unfolded.view(len(pixels), layer.head, layer.head_dim, -1, rows, columns)


def convolution(layer: ACmix, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Return the convolution made of a linear map and shifts, (N, C, H', W')."""
    N, _, H, W = q.shape
    heads, D = layer.head, layer.head_dim
    stacked = torch.cat([t.view(N, heads, D, H * W) for t in (q, k, v)], dim=1)
    mixed = layer.fc(stacked)  # (N, kc², D, H * W)
    by_channel = mixed.transpose(1, 2).reshape(N, -1, H, W)  # (N, D * kc², H, W)
    return shifted_sum(layer, by_channel)


def shifted_sum(layer: ACmix, by_channel: torch.Tensor) -> torch.Tensor:
    """Return the sum of the shifted maps: a grouped convolution, initially of shifts alone."""
    side = layer.kernel_conv // 2
    return torch.nn.functional.conv2d(
        by_channel,
        layer.dep_conv.weight,
        layer.dep_conv.bias,
        stride=layer.stride,
        padding=side,
        groups=layer.head_dim,
    )
