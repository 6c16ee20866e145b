"""Where a checkpoint keeps the model, and what wrappers put before its names."""

from collections.abc import Sequence

# where training scripts keep the model, in the order in which it is looked for
KEYS = (
    "model",
    "state_dict",
    "model_state_dict",
    "model_state",
    "module",
    "net",
    "network",
    "weights",
    "params",
    "ema",
    "model_ema",
    "ema_state_dict",
    "state_dict_ema",
    "ema_model",
    "params_ema",
    "app",
)
PREFIXES = ("module.", "_orig_mod.")
OWN_KEY = "modswap"
COUNTER = "n_averaged"  # what torch's AveragedModel keeps beside the model


def common_prefix(names: Sequence[str]) -> str:
    """Return the wrapper prefix that every name has, `module._orig_mod.` and the like."""
    names = [name for name in names if name != COUNTER] or names
    prefix = ""
    while True:
        more = [p for p in PREFIXES if all(name.startswith(prefix + p) for name in names)]
        if not more:
            return prefix
        prefix += more[0]
