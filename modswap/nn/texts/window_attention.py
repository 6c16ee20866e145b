"""The lesson about attention within windows."""

from typing import Any

from modswap.core.explained.words import ModuleText, Words
from modswap.nn.paper_forms.attention import window_attention, without_dropout
from modswap.nn.texts.lesson import Lesson, held, steps, words


def _sizes(layer: Any) -> dict[str, int]:
    return {
        "C": layer.dim,
        "M²": layer.window_size**2,
        "M": layer.window_size,
        "heads": layer.num_heads,
        "d": layer.dim // layer.num_heads,
    }


TEXT = ModuleText(
    summary=Words(
        "Each pixel attends only to the M x M pixels of its own window, so that the cost grows with the number of pixels and not with its square. A learned bias says how much each relative position matters. Every second layer of a Swin Transformer shifts the windows by half their side, which connects pixels of neighbouring windows.",
        "每个像素只关注自己所在 M x M 窗口内的像素，因此代价与像素数成正比，而不是与其平方成正比。一个可学习的偏置表示各种相对位置的重要程度。Swin Transformer 每隔一层把窗口平移半个边长，使相邻窗口的像素得以相连。",
    ),
    equation=(
        Words(
            "Q, K, V = X W_qkv                               in each window of M x M pixels",
            "Q, K, V = X W_qkv                               在每个 M x M 像素的窗口内",
        ),
        "Attention(Q, K, V) = softmax(Q Kᵀ / √d + B + mask) V",
        "Y = Concat(heads) W_o",
    ),
    symbols=words(
        {
            "X": (
                "pixels of a window, (M², C), after the map was shifted by shift_size",
                "一个窗口内的像素，(M², C)，取自平移了 shift_size 的特征图",
            ),
            "M": ("side of a window, window_size", "窗口边长 window_size"),
            "Q": ("queries", "查询"),
            "K": ("keys", "键"),
            "V": ("values", "值"),
            "d": ("channels of a head, C / heads", "每个头的通道数，C / heads"),
            "B": (
                "relative position bias, (M², M²) for each head, out of a table of (2M − 1)² rows",
                "相对位置偏置，每个头 (M², M²)，取自 (2M − 1)² 行的表",
            ),
            "mask": (
                "−100 between pixels that only the shift brought together, else 0",
                "仅因平移才相邻的像素之间为 −100，否则为 0",
            ),
        }
    ),
    options=words(
        {
            "dim": ("channels of the map, C", "特征图的通道数 C"),
            "num_heads": ("attention heads; divides dim", "注意力头数，须整除 dim"),
            "window_size": ("side of a window in pixels, M", "窗口边长（像素）M"),
            "shift_size": (
                "pixels by which the windows are shifted; 0 for none, else M // 2 in the paper",
                "窗口平移的像素数；0 表示不平移，论文中取 M // 2",
            ),
            "qkv_bias": (
                "whether queries, keys and values have a bias",
                "查询、键和值的投影是否带偏置",
            ),
            "attn_drop": (
                "probability of dropping an attention weight, in training",
                "训练时注意力权重的丢弃概率",
            ),
            "proj_drop": (
                "probability of dropping a value of the output, in training",
                "训练时输出的丢弃概率",
            ),
            "layout": ("order of the axes, NHWC or NCHW", "各轴的顺序，NHWC 或 NCHW"),
        }
    ),
    steps=steps(
        {
            "window_attention": {
                "maps": ("the map with its channels last", "把通道放到最后一维"),
                "N, H, W, C": ("sizes of the map", "特征图的大小"),
                "M, shift, heads": (
                    "side of a window, shift of the windows, number of heads",
                    "窗口边长、平移量、头数",
                ),
                "rows, columns": (
                    "windows above one another and side by side",
                    "纵向和横向的窗口数",
                ),
                "padded": (
                    "zeros at the right and the bottom where windows do not divide the map",
                    "若窗口不能整除特征图，则在右侧和下侧补零",
                ),
                "shifted": (
                    "cyclic shift: rolling the map up and left shifts the windows down and right, without more windows",
                    "循环平移：把特征图向左上滚动，相当于窗口向右下平移，而窗口数不变",
                ),
                "windows": (
                    "the map cut into windows of M x M pixels, each a sequence of M² tokens",
                    "把特征图切成 M x M 的窗口，每个窗口是 M² 个 token 的序列",
                ),
                "qkv": (
                    "one linear map for queries, keys and values",
                    "一次线性映射得到查询、键和值",
                ),
                "q, k, v": ("apart, with the heads in front", "拆分开，并把头放到前面"),
                "B": (
                    "the learned bias of each pair of pixels, by their relative position",
                    "按相对位置查表，得到每对像素的可学习偏置",
                ),
                "logits": (
                    "similarity of queries and keys in a window, over √d, plus the bias",
                    "窗口内查询与键的相似度，除以 √d，再加上偏置",
                ),
                "mask": (
                    "windows at the border hold pixels from both ends of the map: these must not meet",
                    "边界处的窗口里混有来自特征图两端的像素：它们之间不应相互关注",
                ),
                "logits (2)": (
                    "−100 leaves a weight of e^-100, as good as 0",
                    "加上 −100 后权重约为 e^-100，可视为 0",
                ),
                "weights": ("softmax over the pixels of the window", "在窗口内的像素上做 softmax"),
                "attended": (
                    "the weighted sums of the values, heads side by side",
                    "对值加权求和，并拼接各个头",
                ),
                "projected": ("the output projection", "输出投影"),
                "y": ("the windows put together to a map again", "把窗口重新拼成特征图"),
                "unshifted": ("the shift undone", "撤销平移"),
                "out": ("cropped to the size of the input", "裁剪回输入的大小"),
            }
        }
    ),
)

LESSON = Lesson(
    name="WindowAttention",
    example={"dim": 128, "num_heads": 4, "shift_size": 3},
    shape=lambda args: (
        (1, args["dim"], 28, 28) if args.get("layout") == "NCHW" else (1, 28, 28, args["dim"])
    ),
    sizes=_sizes,
    arguments=held("dim", "num_heads", "window_size"),
    text=TEXT,
    form=window_attention,
    has_form=without_dropout,
)
