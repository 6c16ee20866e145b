"""The lesson about bi-level routing attention."""

from typing import Any

from modswap.core.explained.words import ModuleText, Words
from modswap.nn.paper_forms.bilevel_routing_attention import bilevel_routing_attention, has_form
from modswap.nn.texts.lesson import Lesson, held, steps, words


def _sizes(layer: Any) -> dict[str, int]:
    windows = layer.n_win**2
    return {
        "C": layer.dim,
        "S": layer.n_win,
        "S²": windows,
        "topk": layer.topk,
        "heads": layer.num_heads,
        "d": layer.dim // layer.num_heads,
        "qk": layer.qk_dim,
    }


TEXT = ModuleText(
    summary=Words(
        "Attention of all pixels to all is expensive, and most pairs of pixels have nothing to do with one another. BiFormer decides twice: first coarsely, which windows matter to a window, by comparing the windows' means; then finely, by ordinary attention of its pixels to the pixels of those few windows alone.",
        "所有像素两两做注意力代价很高，而且大多数像素对之间并无关联。BiFormer 分两级处理：先在粗粒度上比较各窗口的均值，决定每个窗口应关注哪些窗口；再在细粒度上，让该窗口内的像素只对这少数几个窗口中的像素做普通注意力。",
    ),
    equation=(
        Words(
            "Q, K, V = X W_q, X W_k, X W_v                  X cut into S x S windows",
            "Q, K, V = X W_q, X W_k, X W_v                  X 切成 S x S 个窗口",
        ),
        Words(
            "A_r = Q_r K_rᵀ                                 Q_r, K_r: means of Q and K over each window",
            "A_r = Q_r K_rᵀ                                 Q_r、K_r：Q、K 在每个窗口内的均值",
        ),
        Words(
            "I_r = topkIndex(A_r)                           k windows for each window",
            "I_r = topkIndex(A_r)                           每个窗口选 k 个窗口",
        ),
        "K_g, V_g = gather(K, I_r), gather(V, I_r)",
        "O = softmax(Q K_gᵀ · scale) V_g + LCE(V)",
        "Y = O W_o",
    ),
    symbols=words(
        {
            "X": ("input map, (N, H, W, C)", "输入特征图，(N, H, W, C)"),
            "S": (
                "windows along each side, n_win; S² in all",
                "每条边上的窗口数 n_win，共 S² 个窗口",
            ),
            "Q": (
                "queries of the pixels; Q_r: one for each window",
                "各像素的查询；Q_r：每个窗口一个",
            ),
            "K": ("keys; K_g: those of the routed windows", "键；K_g：路由到的各窗口中的键"),
            "V": ("values; V_g: those of the routed windows", "值；V_g：路由到的各窗口中的值"),
            "A_r": (
                "affinity of each window to each other, (S², S²)",
                "窗口与窗口之间的亲和度，(S², S²)",
            ),
            "I_r": (
                "numbers of the k windows that a window attends to, the best first; k is topk",
                "每个窗口所关注的 k 个窗口的编号，从高到低排列；k 即 topk",
            ),
            "scale": (
                "qk_dim^-0.5, over the channels of all heads together, as in the authors' code",
                "qk_dim^-0.5，按所有头的通道总数计算，与作者代码一致",
            ),
            "LCE": (
                "local context enhancement: a depthwise convolution of the values",
                "局部上下文增强：对值做逐通道卷积（depthwise）",
            ),
            "W_o": ("output projection", "输出投影"),
        }
    ),
    options=words(
        {
            "dim": ("channels of the map, C", "特征图的通道数 C"),
            "num_heads": (
                "attention heads; divides dim and qk_dim",
                "注意力头数，须整除 dim 和 qk_dim",
            ),
            "n_win": ("windows along each side, S", "每条边上的窗口数 S"),
            "qk_dim": (
                "channels of queries and keys over all heads; None: dim",
                "查询和键在所有头上的通道总数；None 表示等于 dim",
            ),
            "qk_scale": (
                "factor of the logits, for routing and attention; None: qk_dim^-0.5",
                "路由和注意力的缩放系数；None 表示 qk_dim^-0.5",
            ),
            "kv_per_win": (
                "keys along each side of a window, in the modes ada_avgpool and ada_maxpool",
                "窗口每边保留的键数，用于 ada_avgpool 和 ada_maxpool 模式",
            ),
            "kv_downsample_ratio": (
                "size and stride of the pooling, in the modes avgpool and maxpool",
                "池化的核大小与步幅，用于 avgpool 和 maxpool 模式",
            ),
            "kv_downsample_kernel": (
                "unused; accepted so that published configurations work",
                "未使用，仅为兼容已发布的配置而保留",
            ),
            "kv_downsample_mode": (
                "how the keys and values of a window become fewer; identity: not at all",
                "窗口内键和值的下采样方式；identity 表示不下采样",
            ),
            "topk": ("windows that each window attends to, k", "每个窗口所关注的窗口数 k"),
            "param_attention": (
                "qkvo, or qkv for no output projection",
                "qkvo 表示带输出投影，qkv 表示不带",
            ),
            "param_routing": (
                "whether the routing has a projection of its own",
                "路由是否使用自己的投影",
            ),
            "diff_routing": (
                "whether gradients flow through the routing",
                "梯度是否经过路由回传",
            ),
            "soft_routing": (
                "whether keys and values are multiplied by the routing weights",
                "是否用路由权重乘以取出的键和值",
            ),
            "side_dwconv": (
                "side of the depthwise convolution of the values; 0 for none",
                "对值做逐通道卷积的核边长；0 表示不做",
            ),
            "auto_pad": (
                "whether maps that n_win does not divide are filled up with zeros",
                "n_win 不能整除的特征图是否补零",
            ),
            "layout": ("order of the axes, NHWC or NCHW", "各轴的顺序，NHWC 或 NCHW"),
            "variant": (
                "original, or refactored: the authors' later class",
                "original 为原始实现，refactored 为作者后来重写的类",
            ),
            "mask_padding": (
                "whether pixels that were filled up are left out",
                "补出来的像素是否被屏蔽",
            ),
        }
    ),
    steps=steps(
        {
            "bilevel_routing_attention": {
                "maps": ("the map with its channels last", "把通道放到最后一维"),
                "_, H, W": ("height and width of the map", "特征图的高和宽"),
                "S": ("windows along each side", "每条边上的窗口数"),
                "padded": (
                    "zeros at the right and the bottom where n_win does not divide the map",
                    "若 n_win 不能整除特征图，则在右侧和下侧补零",
                ),
                "windows": (
                    "the map cut into S x S windows of H/S x W/S pixels",
                    "把特征图切成 S x S 个窗口，每个窗口 H/S x W/S 个像素",
                ),
                "q, kv": (
                    "one linear map gives queries, keys and values",
                    "一次线性映射同时得到查询、键和值",
                ),
                "k, v": ("keys and values apart", "把键和值分开"),
                "weights, indices": (
                    "level 1, between windows: which windows matter to each window",
                    "第一级（窗口之间）：每个窗口应关注哪些窗口",
                ),
                "attended": (
                    "level 2, between pixels: attention to the pixels of those windows",
                    "第二级（像素之间）：对这些窗口中的像素做注意力",
                ),
                "y": ("the windows put together to a map again", "把窗口重新拼成特征图"),
                "values": ("the map of the values", "值所构成的特征图"),
                "local": (
                    "LCE: a depthwise convolution, which mixes neighbours across the windows' borders",
                    "LCE：逐通道卷积，让窗口边界两侧的相邻像素也能交换信息",
                ),
                "y (2)": ("both added", "两者相加"),
                "out": (
                    "the output projection; pixels that were filled up are cut off",
                    "输出投影，并裁掉补出来的像素",
                ),
            },
            "region_routing": {
                "q_r": (
                    "the mean query of each window: a window becomes one token",
                    "每个窗口查询的均值：一个窗口变成一个 token",
                ),
                "k_r": ("the mean key of each window", "每个窗口键的均值"),
                "A_r": (
                    "affinity of each window to each other: the weighted adjacency matrix of a graph of windows; the scale does not change their order",
                    "窗口两两之间的亲和度：即窗口图的带权邻接矩阵；缩放系数不影响其大小顺序",
                ),
                "best, I_r": (
                    "only the k strongest edges of each window are kept; the choice has no gradient",
                    "每个窗口只保留最强的 k 条边；这一选择本身不可导",
                ),
                "return": (
                    "softmax over those k, used as weights with soft_routing alone",
                    "对这 k 个亲和度做 softmax，仅在 soft_routing 时用作权重",
                ),
            },
            "token_attention": {
                "N, P, h, w, _": (
                    "N maps of P = S² windows of h x w pixels",
                    "N 张图，每张 P = S² 个窗口，每个窗口 h x w 个像素",
                ),
                "batch": (
                    "the number of each map in the batch, for gathering",
                    "批内序号，用于取出",
                ),
                "kept": (
                    "keys and values of each window in a row, fewer where they are pooled",
                    "每个窗口的键和值排成一列；若有池化则数量减少",
                ),
                "gathered": (
                    "the keys and values of the k routed windows, copied next to each window: dense matrices, which GPUs multiply fast",
                    "把路由到的 k 个窗口的键和值复制到各窗口旁：得到稠密矩阵，适合 GPU 快速相乘",
                ),
                "gathered (2)": (
                    "keys and values times the routing weights: through these, gradients reach the routing",
                    "键和值乘以路由权重：梯度由此传到路由",
                ),
                "k_g, v_g": (
                    "the pixels of the k windows together, keys and values apart",
                    "把 k 个窗口的像素合在一起，键和值分开",
                ),
                "queries, keys, values": ("the heads apart", "按头拆分"),
                "logits": (
                    "products of each query with the keys of its window's routed windows",
                    "每个查询与其窗口路由到的所有键的内积",
                ),
                "shares": (
                    "softmax over all those pixels: the weights of a query sum to 1",
                    "在这些像素上做 softmax：每个查询的权重之和为 1",
                ),
                "out": ("the weighted sum of the values", "对值加权求和"),
                "return": ("the heads side by side again", "把各个头重新拼接"),
            },
        }
    ),
)

LESSON = Lesson(
    name="BiLevelRoutingAttention",
    example={"dim": 96, "num_heads": 3},
    shape=lambda args: (
        (1, args["dim"], 56, 56) if args.get("layout") == "NCHW" else (1, 56, 56, args["dim"])
    ),
    sizes=_sizes,
    arguments=lambda layer: {
        **held("dim", "qk_dim", "n_win", "topk")(layer),
        "side_dwconv": layer.lepe.kernel_size[0] if layer.lepe is not None else 0,
    },
    text=TEXT,
    form=bilevel_routing_attention,
    has_form=has_form,
    depth=1,
)
