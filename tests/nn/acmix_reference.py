"""ACmix step by step as its paper has it: unfolded windows, fc, shifts; slow and plain."""

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - its usual name


class ACmix(nn.Module):
    """Compute the paper's steps, in its order.

    Pan et al., "On the Integration of Self-Attention and Convolution", CVPR 2022, arXiv:2111.14556.

    Shape:
        Input (N, in_planes, H, W), output (N, out_planes, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(
        self,
        in_planes: int,
        out_planes: int,
        kernel_att: int = 7,
        head: int = 4,
        kernel_conv: int = 3,
        stride: int = 1,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        self.head, self.depth = head, out_planes // head
        self.kernel_att, self.kernel_conv = kernel_att, kernel_conv
        self.stride, self.dilation = stride, dilation
        self.rate1 = nn.Parameter(torch.tensor([0.5]))
        self.rate2 = nn.Parameter(torch.tensor([0.5]))
        self.conv1 = nn.Conv2d(in_planes, out_planes, 1)
        self.conv2 = nn.Conv2d(in_planes, out_planes, 1)
        self.conv3 = nn.Conv2d(in_planes, out_planes, 1)
        self.conv_p = nn.Conv2d(2, self.depth, 1)
        self.fc = nn.Conv2d(3 * head, kernel_conv**2, 1, bias=False)
        shifts = kernel_conv**2
        self.dep_conv = nn.Conv2d(
            shifts * self.depth, out_planes, kernel_conv, groups=self.depth, bias=False
        )
        with torch.no_grad():
            self.dep_conv.weight.zero_()
            for shift in range(shifts):
                self.dep_conv.weight[:, shift, shift // kernel_conv, shift % kernel_conv] = 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.conv1(x), self.conv2(x), self.conv3(x)
        attended, convolved = self.attend(q, k, v), self.convolve(q, k, v)
        return self.rate1 * attended + self.rate2 * convolved

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        n, channels, height, width = q.shape
        s, heads, depth = self.stride, self.head, self.depth
        out_size = (-(-height // s), -(-width // s))
        place = self.conv_p(grid(height, width, q))  # (1, D, H, W)
        near_k = self.windows(k).view(n, heads, depth, -1, *out_size)
        near_v = self.windows(v).view(n, heads, depth, -1, *out_size)
        near_place = self.windows(place).view(depth, -1, *out_size)
        own = (q * depth**-0.5)[:, :, ::s, ::s].view(n, heads, depth, 1, *out_size)
        own_place = place[0, :, None, ::s, ::s]  # (D, 1, H', W')
        logits = (own * (near_k + own_place - near_place)).sum(2)  # (N, heads, window, H', W')
        weights = logits.softmax(2)[:, :, None]
        out: torch.Tensor = (weights * near_v).sum(3).reshape(n, channels, *out_size)
        return out

    def windows(self, pixels: torch.Tensor) -> torch.Tensor:
        reach = self.dilation * (self.kernel_att // 2)
        padded = F.pad(pixels, (reach, reach, reach, reach), mode="reflect")
        return F.unfold(padded, self.kernel_att, dilation=self.dilation, stride=self.stride)

    def convolve(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        n, _, height, width = q.shape
        parts = [t.view(n, self.head, self.depth, height * width) for t in (q, k, v)]
        shifts = self.fc(torch.cat(parts, 1))  # (N, shifts, D, H * W)
        maps = shifts.transpose(1, 2).reshape(n, -1, height, width)
        return F.conv2d(
            maps,
            self.dep_conv.weight,
            stride=self.stride,
            padding=self.kernel_conv // 2,
            groups=self.depth,
        )


def grid(height: int, width: int, like: torch.Tensor) -> torch.Tensor:
    """Return the column and row of each pixel from -1 to 1, (1, 2, H, W)."""
    across = torch.linspace(-1, 1, width, dtype=like.dtype).expand(height, width)
    down = torch.linspace(-1, 1, height, dtype=like.dtype)[:, None].expand(height, width)
    return torch.stack([across, down])[None]
