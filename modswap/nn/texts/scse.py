"""The lesson about concurrent spatial and channel squeeze and excitation."""

from modswap.core.explained.words import ModuleText, Words
from modswap.nn.texts.lesson import Lesson, steps, words

TEXT = ModuleText(
    summary=Words(
        "Squeeze-and-excitation weighs channels; segmentation also wants to know which pixels matter. This block does both side by side, a weight for each channel from the means, and a weight for each pixel from its own channels, and adds the two rescaled maps.",
        "SE 模块给通道加权，而分割任务还需要知道哪些像素重要。该模块两者并行：由均值得到每个通道的权重，由像素自身的各通道得到每个像素的权重，再把两张重新标定的特征图相加。",
    ),
    equation=(
        Words(
            "cSE(U)_c = σ( W_2 δ( W_1 z ) )_c · U_c          z: mean of each channel",
            "cSE(U)_c = σ( W_2 δ( W_1 z ) )_c · U_c          z：每个通道的均值",
        ),
        "sSE(U)(i, j) = σ( W_sq * U )(i, j) · U(i, j)",
        "scSE(U) = cSE(U) + sSE(U)",
    ),
    symbols=words(
        {
            "U": ("input map, (N, C, H, W)", "输入特征图，(N, C, H, W)"),
            "z": ("mean of each channel", "每个通道的均值"),
            "W_1": ("cSE.1, from C to C / r channels", "cSE.1，从 C 到 C / r 个通道"),
            "W_2": ("cSE.3, back to C channels", "cSE.3，恢复为 C 个通道"),
            "W_sq": (
                "sSE.0, a 1x1 convolution to one channel",
                "sSE.0，输出一个通道的 1x1 卷积",
            ),
            "δ": ("ReLU", "ReLU 激活函数"),
            "σ": ("sigmoid", "sigmoid 函数"),
        }
    ),
    options=words(
        {
            "in_channels": ("channels of the map, C", "特征图的通道数 C"),
            "reduction": (
                "how many times narrower the hidden layer is, r",
                "隐藏层缩小的倍数 r",
            ),
        }
    ),
    steps=steps(
        {
            "SCSE.forward": {
                "channels": (
                    "squeeze over space, excite the channels: a weight for each channel",
                    "在空间上压缩、在通道上激励：每个通道一个权重",
                ),
                "pixels": (
                    "squeeze over the channels, excite in space: a weight for each pixel",
                    "在通道上压缩、在空间上激励：每个像素一个权重",
                ),
                "return": (
                    "both rescaled maps added; what both find important is up to twice as strong",
                    "两张重新标定的图相加；两者都认为重要的位置最多可放大到两倍",
                ),
            }
        }
    ),
)

LESSON = Lesson(
    name="SCSE",
    example={"in_channels": 64},
    shape=lambda args: (1, args["in_channels"], 28, 28),
    sizes=lambda layer: {"C": layer.in_channels, "C/r": layer.cSE[1].out_channels},
    arguments=lambda layer: {
        "in_channels": layer.in_channels,
        "reduction": layer.in_channels // layer.cSE[1].out_channels,
    },
    text=TEXT,
)
