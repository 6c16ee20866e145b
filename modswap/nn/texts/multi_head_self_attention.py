"""The lesson about multi-head self-attention."""

from typing import Any

from modswap.core.explained.words import ModuleText, Words
from modswap.nn.paper_forms.attention import multi_head_self_attention, without_dropout
from modswap.nn.texts.lesson import Lesson, held, steps, words


def _sizes(layer: Any) -> dict[str, int]:
    return {"C": layer.dim, "heads": layer.num_heads, "d": layer.dim // layer.num_heads}


TEXT = ModuleText(
    summary=Words(
        "Each token asks all tokens: its query is compared with their keys, and the comparison decides how much of each value it takes. Several heads do so side by side, each in its own d channels, so that one layer can follow several kinds of relations.",
        "每个 token 都向所有 token 发问：用自己的查询与它们的键比较，比较结果决定从各个值中取多少。多个头并行进行，每个头使用自己的 d 个通道，因此一层可以同时捕捉多种关系。",
    ),
    equation=(
        "Q, K, V = X W_qkv",
        Words(
            "Attention(Q, K, V) = softmax(Q Kᵀ / √d) V       in each head",
            "Attention(Q, K, V) = softmax(Q Kᵀ / √d) V       在每个头中",
        ),
        "MultiHead(X) = Concat(head_1, …, head_h) W_o",
    ),
    symbols=words(
        {
            "X": ("tokens, (N, L, C)", "token 序列，(N, L, C)"),
            "Q": ("queries: what a token looks for", "查询：一个 token 要找什么"),
            "K": ("keys: what a token offers to be found by", "键：一个 token 供别人匹配的特征"),
            "V": ("values: what it passes on", "值：被取走的内容"),
            "d": ("channels of a head, C / heads", "每个头的通道数，C / heads"),
            "h": ("number of heads", "头数"),
            "W_o": ("output projection", "输出投影"),
        }
    ),
    options=words(
        {
            "dim": ("channels of a token, C", "token 的通道数 C"),
            "num_heads": ("attention heads; divides dim", "注意力头数，须整除 dim"),
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
        }
    ),
    steps=steps(
        {
            "multi_head_self_attention": {
                "heads": ("number of heads", "头数"),
                "qkv": (
                    "one linear map for queries, keys and values of all heads",
                    "一次线性映射得到所有头的查询、键和值",
                ),
                "q, k, v": (
                    "apart, with the heads in front of the tokens, so that each head is a matrix",
                    "拆分开，并把头放到 token 之前，使每个头成为一个矩阵",
                ),
                "logits": (
                    "similarity of each query with each key; over √d, or softmax would saturate as d grows",
                    "每个查询与每个键的相似度；除以 √d，否则 d 增大时 softmax 会饱和",
                ),
                "weights": (
                    "softmax over the keys: the weights of a query sum to 1",
                    "在键上做 softmax：每个查询的权重之和为 1",
                ),
                "attended": ("the weighted sum of the values", "对值加权求和"),
                "joined": (
                    "the heads side by side: C channels again",
                    "各个头拼接，恢复为 C 个通道",
                ),
                "out": (
                    "the output projection mixes the heads",
                    "输出投影，混合各个头的信息",
                ),
            }
        }
    ),
)

LESSON = Lesson(
    name="MultiHeadSelfAttention",
    example={"dim": 192, "num_heads": 6},
    shape=lambda args: (1, 196, args["dim"]),
    sizes=_sizes,
    arguments=held("dim", "num_heads"),
    text=TEXT,
    form=multi_head_self_attention,
    has_form=without_dropout,
)
