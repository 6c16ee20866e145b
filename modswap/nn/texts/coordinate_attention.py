"""The lesson about coordinate attention."""

from modswap.core.explained.words import ModuleText, Words
from modswap.nn.texts.lesson import Lesson, steps, words

TEXT = ModuleText(
    summary=Words(
        "A mean over the whole map forgets where things are. Coordinate attention takes means along one side at a time: one for each row and one for each column of each channel. So its weights know the vertical and the horizontal position, at hardly more cost than squeeze-and-excitation.",
        "对整幅图取均值会丢失位置信息。坐标注意力每次只沿一个方向取均值：每个通道的每一行、每一列各一个。因此得到的权重分别含有纵向和横向的位置信息，而代价与 SE 模块相差无几。",
    ),
    equation=(
        "z_h(c, i) = 1/W Σ_j x(c, i, j)                 z_w(c, j) = 1/H Σ_i x(c, i, j)",
        Words(
            "f = δ( BN( F_1 [z_h; z_w] ) )                  split again into f_h and f_w",
            "f = δ( BN( F_1 [z_h; z_w] ) )                  再拆成 f_h 和 f_w",
        ),
        "g_h = σ( F_h f_h )                             g_w = σ( F_w f_w )",
        "y(c, i, j) = x(c, i, j) · g_h(c, i) · g_w(c, j)",
    ),
    symbols=words(
        {
            "x": ("input map, (N, C, H, W)", "输入特征图，(N, C, H, W)"),
            "z_h": ("mean of each row", "每一行的均值"),
            "z_w": ("mean of each column", "每一列的均值"),
            "F_1": (
                "conv1, a 1x1 convolution to C / r channels, the same for rows and columns",
                "conv1，降到 C / r 个通道的 1x1 卷积，行与列共用",
            ),
            "BN": ("bn1, batch norm", "bn1，批归一化"),
            "δ": ("hard swish, as in the authors' code", "hard swish 激活，与作者代码一致"),
            "F_h": ("conv_h, back to C channels", "conv_h，恢复为 C 个通道"),
            "F_w": ("conv_w, back to C channels", "conv_w，恢复为 C 个通道"),
            "σ": ("sigmoid", "sigmoid 函数"),
            "g_h": ("weight of each row", "每一行的权重"),
            "g_w": ("weight of each column", "每一列的权重"),
        }
    ),
    options=words(
        {
            "inp": ("channels of the map, C", "特征图的通道数 C"),
            "reduction": (
                "how many times narrower the hidden layer is, r; it has at least 8 channels",
                "隐藏层缩小的倍数 r；隐藏层至少 8 个通道",
            ),
        }
    ),
    steps=steps(
        {
            "CoordinateAttention.forward": {
                "H, W": ("height and width of the map", "特征图的高和宽"),
                "rows": (
                    "the mean of each row: where along the height",
                    "每一行的均值：保留高度方向的位置",
                ),
                "columns": (
                    "the mean of each column, turned upright so that both fit together",
                    "每一列的均值，转成竖直方向以便与行拼接",
                ),
                "hidden": (
                    "both behind one another through the same narrow layer, so that they share what they learn",
                    "两者首尾相接，经过同一个窄层，使两个方向共享所学的变换",
                ),
                "by_row, by_column": ("split again", "再次拆开"),
                "row_weight": (
                    "a weight for each row of each channel",
                    "每个通道每一行的权重",
                ),
                "column_weight": (
                    "a weight for each column, turned back",
                    "每个通道每一列的权重，并转回水平方向",
                ),
                "rescaled": (
                    "each value times the weight of its row and that of its column: their product can point at a place",
                    "每个值乘以所在行和所在列的权重：两者相乘便可定位到某处",
                ),
            }
        }
    ),
)

LESSON = Lesson(
    name="CoordinateAttention",
    example={"inp": 256},
    shape=lambda args: (1, args["inp"], 28, 28),
    sizes=lambda layer: {"C": layer.inp, "C/r": layer.conv1.out_channels},
    arguments=lambda layer: {
        "inp": layer.inp,
        "reduction": layer.inp // layer.conv1.out_channels,
    },
    text=TEXT,
)
