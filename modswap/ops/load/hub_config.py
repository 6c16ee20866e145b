"""Check a folder's config.json: plain values alone go on to the library that builds the model."""

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modswap.core.errors import NAME_A_FACTORY, CheckpointError, UnsafeError
from modswap.io.recognise.small_files import MAX_CONFIG_BYTES, read_json

CONFIG = "config.json"
MAX_TEXT_CHARACTERS = 1000
# what libraries record and never need to build a model; most of it names a place
_DROPPED = re.compile(
    r"\w*name_or_path|auto_map|_commit_hash|custom_pipelines?|pretrained_cfg(_overlay)?"
)
_LABELS = re.compile(r"id2label|label2id|label_names|label_descriptions|class_names")
_DTYPES = re.compile(r"(torch_)?dtype")
_DTYPE = re.compile(r"(torch\.)?(auto|bool|b?float\d+\w*|complex\d+|u?int\d+|half|double|float)")
# keys for places and switches; none of them may hold a text
_PLACES = re.compile(
    r"(\w+_)?(checkpoint|ckpt|dir|directory|file|filename|folder|hub_id|path|pretrained|repo"
    r"|repo_id|revision|tower|uri|url|weights)s?"
)
_OF_A_FILE = re.compile(
    r"\.(bin|ckpt|dll|gguf|gz|h5|json|keras|model|msgpack|npy|npz|onnx|pickle|pkl|pt|pt2|pth|py|pyc"
    r"|safetensors|sh|so|tar|tflite|toml|txt|xz|ya?ml|zip)$",
    re.IGNORECASE,
)
_SCHEME = re.compile(r"\s*[A-Za-z][\w.+-]*:(?!\s|$)")
_TOKEN = re.compile(r"<[^<>\s]{1,60}>")  # `</s>`
_ARCHITECTURE = re.compile(r"\w+(\.\w+)*", re.ASCII)
_FIX = "say how to build the model: `--model package.module:callable`"
_AGAIN = "save or download it again"


def read_config(folder: Path) -> Mapping[str, Any] | None:
    """Return the values of a folder's config.json, or None if it has none.

    Raises:
        CheckpointError: If it cannot be read, is too large, or holds what no program writes.
    """
    file = folder / CONFIG
    try:
        config = read_json(file, MAX_CONFIG_BYTES, folder=folder)
    except FileNotFoundError:
        return None
    return config if isinstance(config, Mapping) else None


def checked_values(config: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """Return a copy of a configuration that holds numbers, short texts, lists and mappings.

    A text that may name a place is refused: one with a slash or a scheme (`hf_hub:`), a hidden
    or home folder, the name of a kind of file, or of something in the folder of `file`. So are
    any texts under keys for places (`checkpoint_path`, `url`), a backbone other than a model of
    timm, and switches that fetch weights or run code. Labels of classes may be any text. Records of
    where the configuration came from are left out, and so is the use of a trained backbone: the
    weights are those of the folder.

    Raises:
        UnsafeError: If it names a place, or asks for code or weights of its own.
        CheckpointError: If a value is of a kind that no program writes.
    """
    return _Checker(file).mapping(config, "")


def architecture_of(name: str, file: Path) -> str:
    """Return the name of a model of timm; refuse any that may name a place."""
    if not _ARCHITECTURE.fullmatch(name) or _OF_A_FILE.search(name):
        raise _unsafe(file, "architecture", f"{name!r:.80} is no name of a model of timm")
    return name


def _unsafe(file: Path, where: str, why: str) -> UnsafeError:
    what = f"its {where!r:.120} is not passed on: {why}"
    return UnsafeError(what, str(file), _FIX).with_retry(*NAME_A_FACTORY)


class _Checker:
    """The rules, with the file that errors name."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def mapping(self, values: Mapping[str, Any], where: str) -> dict[str, Any]:
        """Return the checked copy of a mapping."""
        kept: dict[str, Any] = {}
        for key, value in values.items():
            path = f"{where}.{key}" if where else key
            self._refuse_key(key, path)
            if key == "use_pretrained_backbone":
                kept[key] = False
            elif not _DROPPED.fullmatch(key) and (value or key != "trust_remote_code"):
                self._refuse_switch(key, value, path)
                self._refuse_backbone(key, value, values, path)
                labels = _is_label(path) or _is_label(where)
                kept[key] = self._value(value, path, labels=labels)
        return kept

    def _refuse_key(self, key: str, where: str) -> None:
        if _flaw_of_text(key) and not _is_label(where.removesuffix(f".{key}")):
            raise _unsafe(self.file, where, "a key names a place")

    def _refuse_switch(self, key: str, value: Any, where: str) -> None:
        """Refuse values that fetch weights or run code, by their keys."""
        if key == "trust_remote_code":
            raise _unsafe(self.file, where, "code in the folder is never run")
        if key == "pretrained" and value:
            raise _unsafe(self.file, where, "the weights are those of the folder")
        if _PLACES.fullmatch(key) and _holds_text(value):
            raise _unsafe(self.file, where, "it names a place")

    def _refuse_backbone(self, key: str, value: Any, values: Mapping[str, Any], where: str) -> None:
        """Refuse a backbone that a library would look for in a folder or on the hub."""
        if key == "backbone" and _holds_text(value):
            timm = values.get("use_timm_backbone") is True or "timm" in str(
                values.get("model_type")
            )
            if not timm:
                raise _unsafe(self.file, where, "it names a repository or a folder")
            architecture_of(str(value), self.file)

    def _value(self, value: Any, where: str, *, labels: bool) -> Any:
        if isinstance(value, dict):
            return self.mapping(value, where)
        if isinstance(value, list):
            return [self._value(item, where, labels=labels) for item in value]
        if isinstance(value, str):
            self._refuse_text(value, where, labels=labels)
        elif isinstance(value, float | int):
            self._refuse_number(value, where)
        return value

    def _refuse_number(self, value: float, where: str) -> None:
        if math.isnan(value):
            raise CheckpointError(f"its {where!r:.120} is no number", str(self.file), _AGAIN)
        if isinstance(value, int) and abs(value) >= 2**63:
            what = f"its {where!r:.120} is {value:.3e}, which is too large"
            raise CheckpointError(what, str(self.file), _AGAIN)

    def _refuse_text(self, text: str, where: str, *, labels: bool) -> None:
        if len(text) > MAX_TEXT_CHARACTERS:
            what = f"its {where!r:.120} has {len(text):,} characters"
            raise CheckpointError(what, str(self.file), _AGAIN)
        if _DTYPES.fullmatch(where.rpartition(".")[2]) and not _DTYPE.fullmatch(text):
            what = f"its {where!r:.120} is {text!r:.60}, expected a dtype"
            raise CheckpointError(what, str(self.file), _AGAIN)
        if labels:
            return
        flaw = _flaw_of_text(text)
        if not flaw and text and os.path.lexists(self.file.parent / text):
            flaw = "is in the folder"
        if flaw:
            raise _unsafe(self.file, where, f"{text!r:.80} {flaw}")


def _is_label(where: str) -> bool:
    """Return whether a place in a configuration holds the labels of classes."""
    return _LABELS.fullmatch(where.rpartition(".")[2]) is not None


def _holds_text(value: Any) -> bool:
    """Return whether a value is or holds a text that is not empty."""
    if isinstance(value, (list, dict)):
        inside = value.values() if isinstance(value, dict) else value
        return any(map(_holds_text, inside))
    return isinstance(value, str) and bool(value)


def _flaw_of_text(text: str) -> str:
    """Return why a text may name a place; empty if it cannot."""
    if _TOKEN.fullmatch(text):
        return ""
    if "/" in text or "\\" in text or text.startswith(("~", ".")):
        return "may be a path"
    if not re.sub(r"[\n\t]", "", text).isprintable():
        return "holds control characters"
    if _SCHEME.match(text):
        return "has a scheme"
    return "may be a file" if _OF_A_FILE.search(text.rstrip()) else ""
