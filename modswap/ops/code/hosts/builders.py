"""The call by which a library builds a model, found from the model itself."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from torch import nn

from modswap.core.errors import UsageError
from modswap.ops.code.building.builder import Builder, ConfigBuilder


def library_builder(model: nn.Module, where: str) -> Builder | None:
    """Return the call of a library that should build a model; None without one.

    Whether it builds the same model is for the caller to compare.
    """
    classes = {cls.__module__.split(".")[0]: cls for cls in reversed(type(model).__mro__)}
    here = str(Path.cwd())
    for package, found in _CALLS.items():
        if package in classes:
            try:
                reference, args = found(model, classes[package])
            except UsageError:
                return None
            return Builder(reference, here, where, args)
    config: Any = getattr(model, "config", None)
    if "transformers" not in classes or not hasattr(config, "to_diff_dict"):
        return None
    cls, settings = classes["transformers"], type(config)
    place = (settings.__module__, settings.__qualname__)
    reference = f"{cls.__module__}:{cls.__qualname__}"
    return ConfigBuilder(reference, here, where, config.to_diff_dict(), config=place)


def timm_call(model: nn.Module) -> tuple[str, dict[str, Any]]:
    """Return the name of a timm model, and the arguments that differ from its usual ones."""
    config: Any = getattr(model, "pretrained_cfg", None) or getattr(model, "default_cfg", {})
    name = config.get("architecture") if hasattr(config, "get") else None
    if not name:
        what = "it does not say which of timm's models it is"
        fix = "say it: `--model \"timm:create_model(model_name='resnet18')\"`"
        raise UsageError(what, type(model).__name__, fix)
    classes = getattr(model, "num_classes", None)
    given = {} if classes in {None, config.get("num_classes")} else {"num_classes": classes}
    layers = (one for one in model.modules() if isinstance(one, nn.Conv2d))
    channels = next((one.in_channels for one in layers), 3)
    return str(name), given | ({} if channels == 3 else {"in_chans": channels})


def smp_config(model: nn.Module) -> dict[str, Any]:
    """Return the arguments of an smp model, without weights from the network."""
    config = dict(getattr(model, "config", None) or {})
    if not config:
        raise UsageError("it has no `config`", type(model).__name__, "name a newer file of smp")
    return {**config, "encoder_weights": None}


def _timm(model: nn.Module, _: type) -> tuple[str, Mapping[str, Any]]:
    name, given = timm_call(model)
    return "timm:create_model", {"model_name": name, "pretrained": False, **given}


def _smp(model: nn.Module, cls: type) -> tuple[str, Mapping[str, Any]]:
    return f"segmentation_models_pytorch:{cls.__qualname__}", smp_config(model)


def _ultralytics(model: nn.Module, cls: type) -> tuple[str, Mapping[str, Any]]:
    config = getattr(model, "yaml", None)
    if not isinstance(config, Mapping):
        raise UsageError("it has no `yaml`", cls.__qualname__, "name a checkpoint that it wrote")
    return f"{cls.__module__}:{cls.__qualname__}", {"cfg": deepcopy(dict(config)), "verbose": False}


_CALLS: Mapping[str, Callable[[nn.Module, type], tuple[str, Mapping[str, Any]]]] = {
    "timm": _timm,
    "segmentation_models_pytorch": _smp,
    "ultralytics": _ultralytics,
}
