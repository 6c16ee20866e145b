"""Lines for each library: how its own functions build, load and train a swapped model."""

import copy
import importlib
from collections.abc import Callable, Mapping
from pprint import pformat
from typing import Any

from torch import nn

from modswap.core.asked.import_name import factory_call
from modswap.core.errors import UsageError
from modswap.ops.code.editing.spell import literal, spell
from modswap.ops.code.hosts.builders import smp_config, timm_call
from modswap.ops.code.hosts.parts import HostFile, HostText

SWAPPED = "Swapped"


def _library(name: str) -> Any:
    """Return the module of a library, which the loaded model has imported."""
    return importlib.import_module(name)


def timm_lines(host: HostFile) -> HostText:
    """Return a function that timm registers, for `create_model` and its scripts."""
    model = host.made.model
    builder = host.made.builder
    given: dict[str, Any] = {}
    if builder is not None and builder.parts == ("timm", "create_model"):
        call = factory_call(builder.reference, builder.where, builder.error)
        names = ("model_name", "pretrained")
        given = {**dict(zip(names, call.args, strict=False)), **call.kwargs, **builder.args}
        name = str(given.pop("model_name"))
        given.pop("pretrained", None)
    else:
        _own_class(model, "timm")
        name, given = timm_call(model)
    fresh = _library("timm").create_model(name, pretrained=False, **given)
    own = f"{name.split('.')[0]}_swapped"
    imports, weights = host.weights()
    keywords = "".join(f"{literal(key)}: {literal(value)}, " for key, value in given.items())
    body = (
        "@register_model\n"
        f"def {own}(pretrained=False, **kwargs):\n"
        f'    """{name} with {host.new_classes}: for create_model and timm\'s scripts."""\n'
        f"    model = timm.create_model({literal(name)}, **{{{keywords}**kwargs}})\n"
        f"{host.put_in('model', '    ')}"
        "    return model\n\n\n"
        f"model = timm.create_model({literal(own)})\n{weights}"
    )
    first = ("import timm", "from timm.models import register_model")
    return HostText((*first, *imports), body, fresh)


def smp_lines(host: HostFile) -> HostText:
    """Return a subclass that builds the swapped model, also for `from_pretrained`."""
    model = host.made.model
    cls = _own_class(model, "segmentation_models_pytorch")
    config = smp_config(model)
    imports, weights = host.weights()
    body = (
        f"class {SWAPPED}{cls.__name__}(smp.{cls.__name__}):\n"
        f'    """{cls.__name__} with {host.new_classes}; from_pretrained builds it too."""\n\n'
        "    def __init__(self, **config):\n"
        f"        super().__init__(**{{**{literal(config)}, **config}})\n"
        f"{host.put_in('self', '        ')}\n\n"
        f"model = {SWAPPED}{cls.__name__}()\n{weights}"
    )
    first = ("import segmentation_models_pytorch as smp",)
    return HostText((*first, *imports), body, cls(**copy.deepcopy(config)))


def transformers_lines(host: HostFile) -> HostText:
    """Return a subclass whose `from_pretrained` and training keep the swap."""
    model = host.made.model
    cls = _own_class(model, "transformers")
    config = getattr(model, "config", None)
    if config is None:
        raise UsageError("it has no `config`", cls.__name__, "name a model of transformers")
    name = f"{SWAPPED}{cls.__name__}"
    renaming, lines = _renaming(cls, config, name) if host.made.subject.file.is_dir() else ((), "")
    loading = f"model = {name}.from_pretrained({host.file})\n"
    imports: tuple[str, ...] = ()
    if not host.made.subject.file.is_dir():
        imports, weights = host.weights()
        made = literal(config.to_diff_dict())
        settings = f"config = transformers.{type(config).__name__}.from_dict({made})\n"
        loading = f"{settings}model = {name}(config)\n{weights}"
    body = (
        f"class {name}(transformers.{cls.__name__}):\n"
        f'    """{cls.__name__} with {host.new_classes}, for from_pretrained and Trainer."""\n\n'
        "    def __init__(self, config, *args, **kwargs):\n"
        "        super().__init__(config, *args, **kwargs)\n"
        f"{host.put_in('self', '        ')}\n\n{lines}{loading}"
    )
    return HostText(("import transformers", *renaming, *imports), body, cls(config))


def _renaming(cls: type[nn.Module], config: Any, name: str) -> tuple[tuple[str, ...], str]:
    """Return imports and lines by which a class takes over how its base's files are renamed."""
    module = "transformers.conversion_mapping"
    found, put = "get_checkpoint_conversion_mapping", "register_checkpoint_conversion_mapping"
    try:
        known = getattr(importlib.import_module(module), found)
    except (ImportError, AttributeError):
        return (), ""  # a version that renames nothing
    keys = (cls.__name__, getattr(config, "model_type", ""))
    key = next((one for one in keys if one and known(one) is not None), None)
    if key is None:
        return (), ""
    lines = f"{put}({literal(name)}, {found}({literal(key)}))\n"
    return (f"from {module} import {found}", f"from {module} import {put}"), lines


def ultralytics_lines(host: HostFile) -> HostText:
    """Return classes for the model's YAML where whole layers are swapped, else a trainer."""
    model = host.made.model
    _own_class(model, "ultralytics")
    config = getattr(model, "yaml", None)
    tops = [path.removeprefix("model.") for new in host.made.wanted for path in new.paths]
    slot = host.made.loaded.container.slots[0]
    whole = slot.kind == "module" and bool(slot.keys)
    beside = any(new.beside for new in host.made.wanted)
    if isinstance(config, Mapping) and all(one.isdigit() for one in tops) and not beside:
        return _by_yaml(host, config)
    if not whole:
        what = "a site is inside a block, and the file is no checkpoint of Ultralytics"
        fix = "swap in a checkpoint that it wrote, such as best.pt"
        raise UsageError(what, str(host.made.subject.file), fix)
    body = (
        f"yolo = YOLO({host.file})\n\n\n"
        'class Keeping(yolo.task_map[yolo.task]["trainer"]):\n'
        '    """Train the file\'s own model; `YOLO.train` alone builds it anew, unswapped."""\n\n'
        "    def get_model(self, cfg=None, weights=None, verbose=True):\n"
        "        return weights\n\n\n"
        "model = yolo.model\n"
        '# yolo.train(data="data.yaml", trainer=Keeping); yolo.val(data="data.yaml")\n'
    )
    return HostText(("from ultralytics import YOLO",), body, None)


def _by_yaml(host: HostFile, config: Mapping[str, Any]) -> HostText:
    """Return classes of fixed arguments, which a changed YAML names, and the model of it."""
    model = host.made.model
    changed = copy.deepcopy(dict(config))
    rows = [*changed["backbone"], *changed["head"]]
    classes = []
    for new in host.made.wanted:
        call = spell(new, host.names).call
        inner = str(call)[len(call.head) + 1 : -1]
        numbers = [int(path.removeprefix("model.")) for path in new.paths]
        name = f"{SWAPPED}{numbers[0]}"
        if len(numbers) > 1 or not new.blueprint.fits:
            what = "a shared module, or one with an adapter, has no row in a YAML"
            raise UsageError(what, new.paths[0], "swap it by a rule of its own")
        rows[numbers[0]][1:] = [1, name, [0]]  # one argument, which the class does not read
        classes.append(
            f"class {name}({call.head}):\n"
            "    def __init__(self, *_):\n"
            f"        super().__init__({inner})\n\n\n"
            f"tasks.{name} = {name}\n"
        )
    changed["backbone"] = rows[: len(changed["backbone"])]
    changed["head"] = rows[len(changed["backbone"]) :]
    stem = str(changed.get("yaml_file", "model.yaml")).removesuffix(".yaml")
    changed["yaml_file"] = f"{stem.rpartition('/')[2]}_swapped.yaml"
    cls = type(model).__name__
    body = (
        "\n\n".join(classes)
        + "\n# rows of swapped layers name these classes; as a file for `YOLO(FILE).load(OUT)`:\n"
        f"# pathlib.Path({literal(changed['yaml_file'])}).write_text(json.dumps(CONFIG))\n"
        f"CONFIG = {pformat(changed, width=99, compact=True, sort_dicts=False)}\n"
        f"model = tasks.{cls}(CONFIG, verbose=False)\n{_ultralytics_weights(host)}"
    )
    fresh = type(model)(copy.deepcopy(dict(config)), verbose=False)
    return HostText(("import torch", "from ultralytics.nn import tasks"), body, fresh, changed)


def _ultralytics_weights(host: HostFile) -> str:
    """Return lines that load a file's weights, also of half precision."""
    _, lines = host.weights()
    return lines.replace(".state_dict()\n", ".float().state_dict()\n")


def _own_class(model: nn.Module, package: str) -> type[nn.Module]:
    """Return the library's class of a model, also of one with modules beside it."""
    classes = (cls for cls in type(model).__mro__ if cls.__module__.split(".")[0] == package)
    found = next(classes, None)
    if found is None:
        what = f"its class {type(model).__name__} is none of {package}"
        raise UsageError(what, "--for", "name its own library, or see --standalone")
    return found


HOSTS: Mapping[str, Callable[[HostFile], HostText]] = {
    "timm": timm_lines,
    "smp": smp_lines,
    "transformers": transformers_lines,
    "ultralytics": ultralytics_lines,
}
