"""The lesson about the convolutional gate."""

from modswap.core.explained.words import ModuleText, Words
from modswap.nn.texts.lesson import Lesson, steps, words

TEXT = ModuleText(
    summary=Words(
        "The plain block that gates in attention networks are made of: a convolution mixes neighbours and channels, a batch norm brings each channel to a learned mean and deviation, which makes training faster and steadier, and a ReLU clips what is negative.",
        "注意力网络中构成门的普通模块：卷积混合邻域与通道；批归一化把每个通道调整到可学习的均值和标准差，使训练更快更稳；ReLU 截去负值。",
    ),
    equation=(
        "u = W * x + b",
        "n_c = γ_c (u_c − μ_c) / √(v_c + ε) + β_c",
        "y = max(n, 0)",
    ),
    symbols=words(
        {
            "x": ("input map, (N, C, H, W)", "输入特征图，(N, C, H, W)"),
            "W": ("kernels of conv, with bias b", "conv 的卷积核，偏置为 b"),
            "μ": (
                "mean of a channel: over batch and map in training, a running mean in evaluation",
                "通道的均值：训练时取批次和空间上的均值，推理时取滑动均值",
            ),
            "v": ("variance of a channel, likewise", "通道的方差，取法同上"),
            "γ": ("bn.weight, learned scale of a channel", "bn.weight，可学习的缩放"),
            "β": ("bn.bias, learned shift of a channel", "bn.bias，可学习的平移"),
            "ε": ("1e-5, against a division by 0", "1e-5，防止除以 0"),
        }
    ),
    options=words(
        {
            "in_channels": ("channels of the input, C", "输入通道数 C"),
            "out_channels": (
                "channels of the output, C'; None: as many as of the input",
                "输出通道数 C'；None 表示与输入相同",
            ),
            "kernel_size": ("side of the kernel, odd", "卷积核边长，为奇数"),
            "stride": (
                "pixels of the input for each of the output",
                "步幅：输出每个像素对应的输入像素数",
            ),
        }
    ),
    steps=steps(
        {
            "ConvGate.forward": {
                "y": (
                    "convolution, batch norm and ReLU, from the inside out",
                    "由内到外依次为卷积、批归一化和 ReLU",
                ),
            }
        }
    ),
)

LESSON = Lesson(
    name="ConvGate",
    example={"in_channels": 64, "out_channels": 128},
    shape=lambda args: (1, args["in_channels"], 28, 28),
    sizes=lambda layer: {"C": layer.in_channels, "C'": layer.conv.out_channels},
    arguments=lambda layer: {
        "in_channels": layer.in_channels,
        "out_channels": layer.conv.out_channels,
        "kernel_size": layer.conv.kernel_size[0],
        "stride": layer.conv.stride[0],
    },
    text=TEXT,
    depth=1,
)
