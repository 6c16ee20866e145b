"""The lesson about convolutional block attention."""

from modswap.core.explained.words import ModuleText, Words
from modswap.nn.texts.lesson import Lesson, steps, words


def _hidden(layer: object) -> int:
    return int(layer.ChannelGate.mlp[1].out_features)  # type: ignore[attr-defined] # of CBAM


TEXT = ModuleText(
    summary=Words(
        "Two gates one behind the other: the first asks what matters, and weighs channels; the second asks where, and weighs pixels. Both look at means and maxima: a mean says how common a feature is, a maximum how strong it is somewhere.",
        "两个门依次作用：第一个问“是什么”，给通道加权；第二个问“在哪里”，给像素加权。两者都同时看均值和最大值：均值反映特征是否普遍，最大值反映它在某处有多强。",
    ),
    equation=(
        "M_c(F) = σ( MLP(AvgPool F) + MLP(MaxPool F) )",
        "F' = M_c(F) ⊗ F",
        "M_s(F') = σ( f7x7( [MaxPool F'; AvgPool F'] ) )",
        "F'' = M_s(F') ⊗ F'",
    ),
    symbols=words(
        {
            "F": ("input map, (N, C, H, W)", "输入特征图，(N, C, H, W)"),
            "M_c": ("weight of each channel, (N, C, 1, 1)", "通道权重，(N, C, 1, 1)"),
            "M_s": ("weight of each pixel, (N, 1, H, W)", "像素权重，(N, 1, H, W)"),
            "MLP": (
                "two layers with C / r hidden channels, the same for means and maxima",
                "两层感知机，隐藏层为 C / r 个通道，均值和最大值共用",
            ),
            "f7x7": (
                "convolution with kernels of 7x7 and a batch norm, as in the authors' code",
                "7x7 卷积及批归一化，与作者代码一致",
            ),
            "σ": ("sigmoid", "sigmoid 函数"),
            "⊗": ("product, the weights repeated over the map", "逐元素相乘，权重按需广播"),
        }
    ),
    options=words(
        {
            "gate_channels": ("channels of the map, C", "特征图的通道数 C"),
            "reduction_ratio": (
                "how many times narrower the hidden layer is, r",
                "隐藏层缩小的倍数 r",
            ),
            "no_spatial": (
                "whether the weights of the pixels are left out",
                "是否省略空间（像素）门",
            ),
        }
    ),
    steps=steps(
        {
            "CBAM.forward": {
                "y": ("what: the channel gate", "“是什么”：通道门"),
                "y (2)": (
                    "where: the spatial gate, on the gated channels",
                    "“在哪里”：空间门，作用于已加权的特征图",
                ),
            },
            "_ChannelGate.forward": {
                "logits": (
                    "means and maxima of the channels through the same small network, then added",
                    "通道的均值和最大值分别经过同一个小网络，再相加",
                ),
                "return": (
                    "each channel times its weight in (0, 1)",
                    "每个通道乘以 (0, 1) 内的权重",
                ),
            },
            "_SpatialGate.forward": {
                "both": (
                    "maximum and mean over the channels: two maps that say what is there at each pixel",
                    "沿通道取最大值和均值：两张图，概括每个像素处有什么",
                ),
                "weight": (
                    "a 7x7 convolution of both: a wide view helps to decide where to look",
                    "对两张图做 7x7 卷积：较大的感受野有助于判断该看哪里",
                ),
                "return": ("each pixel times its weight", "每个像素乘以各自的权重"),
            },
        }
    ),
)

LESSON = Lesson(
    name="CBAM",
    example={"gate_channels": 64},
    shape=lambda args: (1, args["gate_channels"], 28, 28),
    sizes=lambda layer: {"C": layer.gate_channels, "C/r": _hidden(layer)},
    arguments=lambda layer: {
        "gate_channels": layer.gate_channels,
        "reduction_ratio": layer.gate_channels // _hidden(layer),
        "no_spatial": layer.no_spatial,
    },
    text=TEXT,
    depth=1,
)
