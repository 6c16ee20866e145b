"""The lesson about ACmix."""

from typing import Any

from modswap.core.explained.words import ModuleText, Words
from modswap.nn.paper_forms.acmix import acmix
from modswap.nn.texts.lesson import Lesson, held, steps, words


def _sizes(layer: Any) -> dict[str, int]:
    kernel, conv = layer.kernel_att, layer.kernel_conv
    return {
        "C": layer.in_planes,
        "C'": layer.out_planes,
        "D": layer.head_dim,
        "heads": layer.head,
        "ka²": kernel**2,
        "kc²": conv**2,
        "kc": conv,
        "3·heads": 3 * layer.head,
        "kc²·D": conv**2 * layer.head_dim,
    }


TEXT = ModuleText(
    summary=Words(
        "A convolution and a self-attention begin with the same work: 1x1 convolutions. ACmix does it once, feeds the result to both, and adds their outputs with two learned weights.",
        "卷积与自注意力的第一步其实相同：都可以看作 1x1 卷积。ACmix 只做一次这一步，把结果同时送入自注意力分支和卷积分支，再用两个可学习的权重把两路输出相加。",
    ),
    equation=(
        "q, k, v = W_q x, W_k x, W_v x",
        "F_att(i) = Σ_{j ∈ N(i)} softmax_j( q_i · (k_j + p_i − p_j) / √D ) v_j",
        "F_conv(i) = Σ_{(a,b)} Shift( fc[q, k, v]^(a,b), a, b )(i)",
        "F_out = α F_att + β F_conv",
    ),
    symbols=words(
        {
            "x": ("input map, (N, C, H, W)", "输入特征图，(N, C, H, W)"),
            "q": (
                "query of a pixel, split into heads of D channels",
                "像素的查询，分成每头 D 个通道",
            ),
            "k": ("key of a pixel", "像素的键"),
            "v": ("value of a pixel", "像素的值"),
            "N": (
                "batch; N(i): the ka x ka window around pixel i",
                "批大小；N(i)：像素 i 周围 ka x ka 的窗口",
            ),
            "p": (
                "learned position of a pixel, a linear map of its coordinates in [-1, 1]",
                "像素的可学习位置编码，由 [-1, 1] 内的坐标经线性映射得到",
            ),
            "D": ("channels of a head, C' / heads", "每个头的通道数，C' / heads"),
            "fc": (
                "linear map from the 3·heads values of a channel to the kc² kernel positions",
                "线性映射：把每个通道的 3·heads 个值变成 kc² 个卷积核位置上的值",
            ),
            "Shift": ("displacement of a map by (a, b) pixels", "把特征图平移 (a, b) 个像素"),
            "α": ("rate1, learned weight of the attention", "rate1，注意力分支的可学习权重"),
            "β": ("rate2, learned weight of the convolution", "rate2，卷积分支的可学习权重"),
        }
    ),
    options=words(
        {
            "in_planes": ("channels of the input", "输入通道数"),
            "out_planes": ("channels of the output, C'", "输出通道数 C'"),
            "kernel_att": (
                "side of the window that a pixel attends to, ka; odd",
                "每个像素所关注窗口的边长 ka，为奇数",
            ),
            "head": ("attention heads; divides out_planes", "注意力头数，须整除 out_planes"),
            "kernel_conv": ("side of the convolution's kernel, kc; odd", "卷积核边长 kc，为奇数"),
            "stride": (
                "pixels of the input for each of the output",
                "步幅：输出每移动一个像素对应的输入像素数",
            ),
            "dilation": (
                "pixels from one key of a window to the next",
                "窗口内相邻两个键之间的像素间隔",
            ),
        }
    ),
    steps=steps(
        {
            "acmix": {
                "q, k, v": (
                    "stage I: three 1x1 convolutions, whose results both branches use",
                    "第一阶段：三个 1x1 卷积，其结果由两个分支共用",
                ),
                "attended": ("stage II, attention branch", "第二阶段：自注意力分支"),
                "convolved": ("stage II, convolution branch", "第二阶段：卷积分支"),
                "out": (
                    "the sum of both branches, each with its learned weight, 0.5 at first",
                    "两个分支按可学习的权重相加，初始值均为 0.5",
                ),
            },
            "attention": {
                "N, _, H, W": ("sizes of the map", "特征图的大小"),
                "heads, D, s": (
                    "number of heads, channels of a head, stride",
                    "头数、每头通道数、步幅",
                ),
                "position": (
                    "a 1x1 convolution turns each pixel's two coordinates into a position of D channels",
                    "一个 1x1 卷积把每个像素的两个坐标变成 D 个通道的位置编码",
                ),
                "near_k, near_v": (
                    "keys and values of the ka x ka pixels around each query, copied out; pixels beyond the border are reflected",
                    "把每个查询周围 ka x ka 个像素的键和值展开取出，边界之外用反射填充",
                ),
                "near_position": ("the positions of the same pixels", "同一窗口内各像素的位置编码"),
                "asked": (
                    "queries by head, every s-th pixel",
                    "按头拆分的查询，每隔 s 个像素取一个",
                ),
                "own_position": ("the query's own position", "查询自身的位置编码"),
                "keys": (
                    "each key plus the difference of the two positions: relative position encoding",
                    "每个键加上两个位置编码之差：相对位置编码",
                ),
                "logits": (
                    "products of a query with the keys of its window, over √D so that their variance does not grow with D",
                    "查询与窗口内各键的内积，除以 √D，使方差不随 D 增大",
                ),
                "weights": (
                    "softmax over the ka² pixels of the window: the weights of a query sum to 1",
                    "在窗口的 ka² 个像素上做 softmax：每个查询的权重之和为 1",
                ),
                "attended": ("the weighted sum of the window's values", "对窗口内的值加权求和"),
                "return": ("the heads side by side: C' channels", "拼接各个头，得到 C' 个通道"),
            },
            "convolution": {
                "N, _, H, W": ("sizes of the map", "特征图的大小"),
                "heads, D": ("number of heads, channels of a head", "头数、每头通道数"),
                "stacked": (
                    "queries, keys and values side by side: 3·heads maps for each of D channels",
                    "把查询、键、值并排放置：D 个通道中每个通道有 3·heads 张图",
                ),
                "mixed": (
                    "a linear map over these 3·heads values, the same for all pixels and channels, gives one value for each of the kc² positions of a kernel",
                    "对这 3·heads 个值做线性映射（所有像素和通道共用），得到卷积核 kc² 个位置上各一个值",
                ),
                "by_channel": (
                    "the kc² maps of a channel together",
                    "把同一通道的 kc² 张图放在一起",
                ),
                "return": (
                    "shift each of the kc² maps by its place in the kernel and add them up; written as a grouped convolution whose kernels begin as shifts and are learned",
                    "把 kc² 张图按其在卷积核中的位置平移后相加；写成分组卷积，其卷积核以平移初始化并参与学习",
                ),
            },
        }
    ),
)

LESSON = Lesson(
    name="ACmix",
    example={"in_planes": 64, "out_planes": 128},
    shape=lambda args: (1, args["in_planes"], 28, 28),
    sizes=_sizes,
    arguments=held(
        "in_planes", "out_planes", "kernel_att", "head", "kernel_conv", "stride", "dilation"
    ),
    text=TEXT,
    form=acmix,
    depth=1,
)
