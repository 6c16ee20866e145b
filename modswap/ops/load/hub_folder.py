"""Build the model of a Hugging Face folder: the class that its config.json names."""

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import nn

from modswap.core.errors import CheckpointError
from modswap.ops.load.bounded import bounded
from modswap.ops.load.closed import closed_off
from modswap.ops.load.hub_config import CONFIG, architecture_of, checked_values, read_config
from modswap.ops.run.describe import one_line

__all__ = ["CONFIG", "pretrained"]

_Build = Callable[[], nn.Module]


def pretrained(folder: Path, weights: Mapping[str, Any]) -> _Build | None:
    """Return the function that builds the model of a folder's config.json, without its weights.

    Only a class that the library itself exports is taken, and it gets plain values; code in the
    folder is never run, and no file or network is open to the library meanwhile. The memory of the
    model is bounded by that of the `weights` it is built for.

    Returns:
        None if there is no such file, or it names no library that is known.

    Raises:
        CheckpointError: If the file is damaged, or the library is not installed or has no such
            class.
        UnsafeError: If a value names a place, or asks for code or weights of its own.
    """
    config = read_config(folder) if folder.is_dir() else None
    if config is None:
        return None
    file = folder / CONFIG
    match config:
        case {"_class_name": str() as name}:
            build = _diffusers(name, config, file)
        case {"architectures": [str() as name, *_], "model_type": str()}:
            build = _transformers(name, config, file)
        case {"architecture": str() as name}:
            build = _timm(name, config, file)
        case _:
            return None
    return lambda: _built(build, weights, str(file))


def _built(build: _Build, weights: Mapping[str, Any], where: str) -> nn.Module:
    import_module("torch._dynamo")  # by the first mode of torch; it makes a folder for its cache
    with closed_off(where), bounded(weights, where):
        return build()


def _diffusers(name: str, config: Mapping[str, Any], file: Path) -> _Build:
    cls = _exported("diffusers", name, file)
    values = checked_values(config, file)
    return lambda: cls.from_config(values)


def _transformers(name: str, config: Mapping[str, Any], file: Path) -> _Build:
    cls = _exported("transformers", name, file)
    values = checked_values(config, file)
    return lambda: cls(cls.config_class.from_dict(values))


def _timm(name: str, config: Mapping[str, Any], file: Path) -> _Build:
    create = _exported("timm", "create_model", file)
    more = config.get("model_args")
    known = {key: config[key] for key in ("num_classes", "global_pool") if key in config}
    args = {**known, **(more if isinstance(more, Mapping) else {})}
    values = checked_values(args, file)
    values.pop("pretrained", None)
    architecture = architecture_of(name, file)
    return lambda: create(architecture, pretrained=False, **values)


def _exported(library: str, name: str, file: Path) -> Any:
    """Return a class or function that a library exports under a name."""
    try:
        module = import_module(library)
    except ImportError:
        what = f"it names {name!r:.80} of {library}, which is not installed"
        fix = f"pip install {library}, or say how to build it: `--model package.module:callable`"
        raise CheckpointError(what, str(file), fix) from None
    except Exception as error:
        what = f"it names {name!r:.80} of {library}, whose import raised {one_line(error, 160)}"
        fix = f"see that `import {library}` works in a Python session"
        raise CheckpointError(what, str(file), fix) from error
    found = getattr(module, name, None) if name.isidentifier() else None
    if found is None or (isinstance(found, type) and not issubclass(found, nn.Module)):
        what = f"it names {name!r:.80}, which this {library} has no model class for"
        fix = "update it, or say how to build the model: `--model package.module:callable`"
        raise CheckpointError(what, str(file), fix)
    return found
