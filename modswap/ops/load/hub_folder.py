"""Build the model of a Hugging Face folder: the class that its config.json names."""

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import nn

from modswap.core.errors import CheckpointError
from modswap.io.recognise.small_files import MAX_CONFIG_BYTES, read_json

CONFIG = "config.json"


def pretrained(folder: Path) -> Callable[[], nn.Module] | None:
    """Return the function that builds the model of a folder's config.json, without weights.

    Only a class that the library itself exports is taken; code in the folder is never run.

    Returns:
        None if there is no such file, or it names no library that is known.

    Raises:
        CheckpointError: If the file is damaged, or the library is not installed or has no such
            class.
    """
    file = folder / CONFIG
    config = _config(folder)
    match config:
        case {"_class_name": str() as name}:
            return _diffusers(name, config, file)
        case {"architectures": [str() as name, *_], "model_type": str()}:
            return _transformers(name, folder, file)
        case {"architecture": str() as name}:
            return _timm(name, config, file)
    return None


def _config(folder: Path) -> Any:
    """Return the content of a folder's config.json; None if there is none."""
    if not folder.is_dir():
        return None
    try:
        return read_json(folder / CONFIG, MAX_CONFIG_BYTES, folder=folder)
    except FileNotFoundError:
        return None


def _diffusers(name: str, config: Mapping[str, Any], file: Path) -> Callable[[], nn.Module]:
    cls = _exported("diffusers", name, file)
    return lambda: cls.from_config(dict(config))


def _transformers(name: str, folder: Path, file: Path) -> Callable[[], nn.Module]:
    cls = _exported("transformers", name, file)
    config = cls.config_class
    return lambda: cls(config.from_pretrained(folder))


def _timm(name: str, config: Mapping[str, Any], file: Path) -> Callable[[], nn.Module]:
    create = _exported("timm", "create_model", file)
    more = config.get("model_args")
    args = dict(more) if isinstance(more, Mapping) else {}
    known = {key: config[key] for key in ("num_classes", "global_pool") if key in config}
    return lambda: create(name, pretrained=False, **{**known, **args})


def _exported(library: str, name: str, file: Path) -> Any:
    """Return a class or function that a library exports under a name."""
    try:
        module = import_module(library)
    except ImportError:
        what = f"it names {name!r} of {library}, which is not installed"
        fix = f"pip install {library}, or say how to build it: `--model package.module:callable`"
        raise CheckpointError(what, str(file), fix) from None
    found = getattr(module, name, None) if name.isidentifier() else None
    if found is None or (isinstance(found, type) and not issubclass(found, nn.Module)):
        what = f"it names {name!r}, which this {library} has no model class for"
        fix = "update it, or say how to build the model: `--model package.module:callable`"
        raise CheckpointError(what, str(file), fix)
    return found
