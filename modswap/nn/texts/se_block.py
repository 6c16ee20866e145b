"""The lesson about squeeze-and-excitation."""

from modswap.core.explained.words import ModuleText, Words
from modswap.nn.texts.lesson import Lesson, steps, words

TEXT = ModuleText(
    summary=Words(
        "A convolution sees a neighbourhood; whether a channel matters is a question about the whole picture. The block squeezes each channel to its mean over the map, lets two small layers compare all channels, and rescales each channel by a weight between 0 and 1.",
        "卷积只看邻域，而某个通道是否重要取决于整幅图。该模块先把每个通道压缩成全图均值（Squeeze），再用两个小的全连接层综合所有通道（Excitation），最后用 0 到 1 之间的权重重新标定每个通道。",
    ),
    equation=(
        "z_c = 1 / (H W) Σ_{i,j} x_c(i, j)",
        "s = σ( W_2 δ( W_1 z ) )",
        "y_c = s_c x_c",
    ),
    symbols=words(
        {
            "x": ("input map, (N, C, H, W)", "输入特征图，(N, C, H, W)"),
            "z": ("squeezed map: one number for each channel", "压缩后的描述：每个通道一个数"),
            "W_1": ("fc.0, from C to C / r channels", "fc.0，从 C 到 C / r 个通道"),
            "W_2": ("fc.2, back to C channels", "fc.2，恢复为 C 个通道"),
            "δ": ("ReLU", "ReLU 激活函数"),
            "σ": ("sigmoid, fc.3", "sigmoid 函数，fc.3"),
            "s": ("weight of each channel, in (0, 1)", "每个通道的权重，取值在 (0, 1)"),
        }
    ),
    options=words(
        {
            "channel": ("channels of the map, C", "特征图的通道数 C"),
            "reduction": (
                "how many times narrower the hidden layer is, r",
                "隐藏层缩小的倍数 r",
            ),
            "bias": ("whether both layers have a bias", "两个全连接层是否带偏置"),
        }
    ),
    steps=steps(
        {
            "SEBlock.forward": {
                "weight": (
                    "squeeze: the mean of each channel; excitation: two layers with a bottleneck between, then a sigmoid, not a softmax, so that several channels can be strong at once",
                    "Squeeze：对每个通道求均值；Excitation：两个全连接层形成瓶颈，再经 sigmoid 而非 softmax，因此可以同时突出多个通道",
                ),
                "return": ("scale: each channel times its weight", "Scale：每个通道乘以各自的权重"),
            }
        }
    ),
)

LESSON = Lesson(
    name="SEBlock",
    example={"channel": 64},
    shape=lambda args: (1, args["channel"], 28, 28),
    sizes=lambda layer: {"C": layer.channel, "C/r": layer.fc[0].out_features},
    arguments=lambda layer: {
        "channel": layer.channel,
        "reduction": layer.channel // layer.fc[0].out_features,
    },
    text=TEXT,
)
