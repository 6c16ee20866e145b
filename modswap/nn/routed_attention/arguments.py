"""Checks of the arguments of bi-level routing attention, and the layers that they select."""

from torch import nn

from modswap.nn.checks import check_choice, check_divides, check_positive

KV_DOWNSAMPLE_MODES = ("identity", "ada_avgpool", "ada_maxpool", "avgpool", "maxpool")


def depthwise(dim: int, side: int) -> nn.Conv2d:
    """Return the convolution of each channel by itself, which keeps the size of the map."""
    return nn.Conv2d(dim, dim, side, padding=side // 2, groups=dim)


def pooling(mode: str, kv_per_win: int | None, ratio: int | None) -> nn.Module:
    """Return the pooling of the keys and values of a window, (N, c, h, w).

    Raises:
        ValueError: If there is no such mode, or its size is missing.
    """
    check_choice("kv_downsample_mode", mode, KV_DOWNSAMPLE_MODES)
    if mode == "identity":
        return nn.Identity()
    adaptive = mode.startswith("ada_")
    name, size = ("kv_per_win", kv_per_win) if adaptive else ("kv_downsample_ratio", ratio)
    if size is None or size < 1:
        raise ValueError(f"{name} must be at least 1 in kv_downsample_mode {mode!r}, got {size}")
    match mode:
        case "ada_avgpool":
            return nn.AdaptiveAvgPool2d(size)
        case "ada_maxpool":
            return nn.AdaptiveMaxPool2d(size)
        case "avgpool":
            return nn.AvgPool2d(size)
    return nn.MaxPool2d(size)


def check_sizes(*, dim: int, num_heads: int, n_win: int, qk_dim: int) -> None:
    """Refuse sizes below 1 and heads that do not divide the channels.

    Raises:
        ValueError: If there is one.
    """
    check_positive(dim=dim, num_heads=num_heads, n_win=n_win, qk_dim=qk_dim)
    check_divides("num_heads", num_heads, dim=dim, qk_dim=qk_dim)


def check_routing(topk: int, n_win: int, *, param_routing: bool, diff: bool, soft: bool) -> None:
    """Refuse more windows than there are, and routing options that do not go together.

    Raises:
        ValueError: If there is one.
    """
    if not 1 <= topk <= n_win**2:
        raise ValueError(f"topk must be from 1 to n_win² = {n_win**2} (n_win {n_win}), got {topk}")
    if diff and not soft:
        raise ValueError(
            "diff_routing=True needs soft_routing=True, got soft_routing=False: "
            "without the weights no gradient flows through the routing"
        )
    if param_routing and not diff:
        raise ValueError("param_routing=True needs diff_routing=True, got diff_routing=False")


def check_numbers(side_dwconv: int, qk_scale: float | None) -> None:
    """Refuse an even side of the convolution, and a scale of 0.

    Raises:
        ValueError: If there is one.
    """
    if side_dwconv < 0 or (side_dwconv and side_dwconv % 2 == 0):
        raise ValueError(f"side_dwconv must be odd, or 0 for none, got {side_dwconv}")
    if qk_scale == 0:
        raise ValueError("qk_scale must not be 0; None means qk_dim^-0.5")


def check_refactored(layer: nn.Module, dim: int) -> None:
    """Refuse options of the layer that the authors' later class does not have.

    Raises:
        ValueError: If there is one.
    """
    fixed = {
        "qk_dim": dim,
        "kv_downsample_mode": "identity",
        "param_attention": "qkvo",
        "param_routing": False,
        "diff_routing": False,
        "soft_routing": False,
    }
    for name, value in fixed.items():
        given = getattr(layer, name)
        if given != value:
            raise ValueError(f"variant 'refactored' has {name} {value!r} only, got {given!r}")


def check_window(mode: str, ratio: int | None, h: int, w: int) -> None:
    """Refuse windows that are smaller than the pooling of their keys and values.

    Raises:
        ValueError: If they are.
    """
    if mode in {"avgpool", "maxpool"} and min(h, w) < (ratio or 1):
        raise ValueError(
            f"kv_downsample_ratio {ratio} is larger than the windows, which are {h}x{w} pixels"
        )
