"""The lesson about self-attention with a residual and a layer norm, named by a prefix."""

from typing import Any

from modswap.core.explained.words import ModuleText, Words
from modswap.nn.paper_forms.attention import self_attention
from modswap.nn.texts.lesson import Lesson, steps, words


def _block(layer: Any) -> Any:
    return layer.get_submodule(f"{layer.prefix}_multi_head_attention")


def _key_dim(layer: Any) -> int:
    block = _block(layer)
    return int(block.query.out_features // block.num_heads)


def _sizes(layer: Any) -> dict[str, int]:
    return {"E": layer.dim, "heads": _block(layer).num_heads, "d": _key_dim(layer)}


TEXT = ModuleText(
    summary=Words(
        "The block that Keras users build from three layers: attention of every token to all tokens, a residual that adds the token itself, and a layer norm. The prefix names the three layers, so that they can be found in a model: {prefix}_multi_head_attention, {prefix}_add, {prefix}_layer_normalization.",
        "Keras 用户常用三个层搭成的模块：每个 token 对所有 token 的注意力、把 token 自身加回来的残差，以及层归一化。前缀用来命名这三个层，便于在模型中找到它们：{prefix}_multi_head_attention、{prefix}_add、{prefix}_layer_normalization。",
    ),
    equation=(
        "Q, K, V = X W_q, X W_k, X W_v",
        "A = Concat_heads( softmax(Q Kᵀ / √d + M) V ) W_o",
        "Y = LayerNorm(X + A)",
    ),
    symbols=words(
        {
            "X": ("tokens, (N, L, E)", "token 序列，(N, L, E)"),
            "Q": ("queries", "查询"),
            "K": ("keys", "键"),
            "V": ("values", "值"),
            "d": ("channels of a head, key_dim", "每个头的通道数 key_dim"),
            "M": (
                "causal mask: −∞ for later tokens with mask=True, else 0",
                "因果掩码：mask=True 时，之后的 token 处为 −∞，否则为 0",
            ),
            "A": ("attended tokens", "注意力的输出"),
            "LayerNorm": (
                "each token less its mean, over its deviation, with learned scale and shift; ε is 1e-3 as in Keras",
                "对每个 token 减去均值、除以标准差，再做可学习的缩放和平移；ε 取 Keras 的 1e-3",
            ),
        }
    ),
    options=words(
        {
            "dim": ("channels of a token, E", "token 的通道数 E"),
            "num_heads": ("attention heads", "注意力头数"),
            "key_dim": (
                "channels of one head, d; None: dim / num_heads",
                "每个头的通道数 d；None 表示 dim / num_heads",
            ),
            "prefix": ("first part of the layers' names", "各层名称的前缀"),
            "mask": (
                "whether a token sees only itself and those before it",
                "每个 token 是否只能看到自己和之前的 token",
            ),
            "layout": (
                "NLC for tokens; NCHW or NHWC for maps, whose pixels are the tokens, row by row",
                "NLC 表示 token 序列；NCHW 或 NHWC 表示特征图，像素逐行作为 token",
            ),
        }
    ),
    steps=steps(
        {
            "self_attention": {
                "tokens": (
                    "of a map each pixel is a token, row by row",
                    "若输入是特征图，则逐行把每个像素当作一个 token",
                ),
                "attended": (
                    "{prefix}_multi_head_attention",
                    "{prefix}_multi_head_attention：多头注意力",
                ),
                "added": (
                    "{prefix}_add: the residual; gradients reach the input past the attention",
                    "{prefix}_add：残差连接，梯度可绕过注意力直达输入",
                ),
                "y": (
                    "{prefix}_layer_normalization, behind the sum, as in the original Transformer",
                    "{prefix}_layer_normalization：在相加之后做归一化，与最初的 Transformer 相同",
                ),
            },
            "attention": {
                "block": (
                    "the layer named {prefix}_multi_head_attention",
                    "名为 {prefix}_multi_head_attention 的层",
                ),
                "heads": ("number of heads", "头数"),
                "q, k, v": (
                    "three linear maps, then the heads apart",
                    "三个线性映射，再按头拆分",
                ),
                "logits": (
                    "similarity of each query with each key, over √d",
                    "每个查询与每个键的相似度，除以 √d",
                ),
                "later": (
                    "with mask: the tokens behind each token",
                    "启用 mask 时：每个 token 之后的各个 token",
                ),
                "logits (2)": (
                    "these get a logit of −∞, and so a weight of 0",
                    "把它们的 logit 设为 −∞，权重即为 0",
                ),
                "weights": ("softmax over the keys", "在键上做 softmax"),
                "attended": (
                    "the weighted sums of the values, heads side by side",
                    "对值加权求和，并拼接各个头",
                ),
                "return": (
                    "the output projection, back to E channels",
                    "输出投影，恢复为 E 个通道",
                ),
            },
        }
    ),
)

LESSON = Lesson(
    name="SelfAttention",
    example={"dim": 64, "num_heads": 4},
    shape=lambda args: {
        "NCHW": (1, args["dim"], 7, 7),
        "NHWC": (1, 7, 7, args["dim"]),
    }.get(args.get("layout", "NLC"), (1, 49, args["dim"])),
    sizes=_sizes,
    arguments=lambda layer: {
        "dim": layer.dim,
        "num_heads": _block(layer).num_heads,
        "key_dim": _key_dim(layer),
    },
    text=TEXT,
    form=self_attention,
    depth=1,
)
