"""The lesson about efficient channel attention."""

from modswap.core.explained.words import ModuleText, Words
from modswap.nn.texts.lesson import Lesson, steps, words

TEXT = ModuleText(
    summary=Words(
        "Squeeze-and-excitation narrows the channels in between, which loses their direct link to the weights, and has C² / r parameters twice. ECA keeps each channel and looks at its k neighbours alone: a one-dimensional convolution along the channels, with k parameters in all.",
        "SE 模块中间会降维，使通道与其权重失去直接对应，而且有两组 C² / r 个参数。ECA 不降维，只看每个通道的 k 个邻居：沿通道方向做一维卷积，总共只有 k 个参数。",
    ),
    equation=(
        "g(x)_c = 1 / (H W) Σ_{i,j} x_c(i, j)",
        "ω = σ( C1D_k( g(x) ) )",
        "y_c = ω_c x_c",
        "k = | log2(C) / γ + b / γ |_odd                γ = 2, b = 1",
    ),
    symbols=words(
        {
            "x": ("input map, (N, C, H, W)", "输入特征图，(N, C, H, W)"),
            "g(x)": ("mean of each channel", "每个通道的全局平均"),
            "C1D_k": (
                "convolution over k neighbouring channels, conv; without a bias",
                "跨 k 个相邻通道的一维卷积 conv，不带偏置",
            ),
            "σ": ("sigmoid", "sigmoid 函数"),
            "ω": ("weight of each channel, in (0, 1)", "每个通道的权重，取值在 (0, 1)"),
            "k": (
                "k_size; the paper's rule takes more neighbours for more channels: 3 for 64 of them, 5 for 128 to 1024",
                "即 k_size；论文的规则是通道越多取越多邻居：64 个通道取 3，128 至 1024 个通道取 5",
            ),
        }
    ),
    options=words(
        {
            "channel": ("channels of the map, C", "特征图的通道数 C"),
            "k_size": (
                "neighbouring channels that a weight is computed from, odd",
                "计算一个权重所用的相邻通道数，为奇数",
            ),
        }
    ),
    steps=steps(
        {
            "ECA.forward": {
                "mean": (
                    "global average pooling: one number for each channel",
                    "全局平均池化：每个通道一个数",
                ),
                "weight": (
                    "the channels as a sequence: a weight depends on the means of k neighbours, with the same k parameters everywhere",
                    "把通道看作一个序列：每个权重由 k 个相邻通道的均值得到，所有位置共用这 k 个参数",
                ),
                "return": ("each channel times its weight", "每个通道乘以各自的权重"),
            }
        }
    ),
)

LESSON = Lesson(
    name="ECA",
    example={"channel": 64},
    shape=lambda args: (1, args["channel"], 28, 28),
    sizes=lambda layer: {"C": layer.channel},
    arguments=lambda layer: {"channel": layer.channel, "k_size": layer.conv.kernel_size[0]},
    text=TEXT,
)
