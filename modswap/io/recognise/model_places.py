"""The keys under which checkpoints keep the model, and the prefixes of wrappers."""

from collections.abc import Sequence

# keys of training scripts, in the order in which they are tried
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
_PREFIXES = ("module.", "_orig_mod.")
OWN_KEY = "modswap"
COUNTER = "n_averaged"  # an entry of torch's AveragedModel beside the model


def common_prefix(names: Sequence[str]) -> str:
    """Return the wrapper prefix that all names share, such as `module._orig_mod.`."""
    names = [name for name in names if name != COUNTER] or names
    prefix = ""
    while True:
        more = [p for p in _PREFIXES if all(name.startswith(prefix + p) for name in names)]
        if not more:
            return prefix
        prefix += more[0]
