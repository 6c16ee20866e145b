"""Lines that keep a swap in a library, with stand-ins for the libraries; tests/hosts has the real.

Covers: builders, parts.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import modswap
from modswap.core.asked.job import CodeJob, Policy, Subject
from modswap.core.errors import UsageError
from modswap.core.kept.code_change import StandaloneFile
from modswap.ops.code import job
from modswap.ops.code.building.swapped import Swapped
from modswap.ops.code.standalone.write import Standalone
from tests.ops.code.cases import quick

ALLOW = ("timm.*", "segmentation_models_pytorch.*", "transformers.*", "ultralytics.*", "others.*")


class Net(nn.Module):
    """A model of a library: (N, 3, H, W) -> (N, 8, H, W)."""

    def __init__(self, num_classes: int = 8, **_: Any) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1))
        self.num_classes = num_classes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.model(x)
        return out


Make = Callable[[str], type[nn.Module]]


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Return a function that makes a library with the model above."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(job, "proved_standalone", _unproved)

    def made(name: str) -> type[nn.Module]:
        package, nets = ModuleType(name), ModuleType(f"{name}.nets")
        cls = type("Net", (Net,), {"__module__": f"{name}.nets"})
        vars(nets)["Net"] = cls

        def create_model(model_name: str, *, pretrained: bool, **given: Any) -> nn.Module:
            assert (model_name.split(".")[0], pretrained) == ("net", False)
            net: nn.Module = cls(**given)
            return net

        vars(package).update(create_model=create_model, nets=nets, Net=cls)
        monkeypatch.setitem(sys.modules, name, package)
        monkeypatch.setitem(sys.modules, f"{name}.nets", nets)
        return cls

    return made


def _unproved(_: Swapped, written: Standalone, *, whole: bool) -> StandaloneFile:
    compile(written.text, "lines", "exec")
    return StandaloneFile(written.text, 0.0)


def lines(model: nn.Module, host: str, match: str = "model.1") -> str:
    """Return the lines for a whole module that is swapped."""
    rule = {"match": match, "with": "SEBlock", "args": {"reduction": 2}}
    modswap.replace(model, quick(rule))
    modswap.save(model, "out.pt", force=True)
    return job.host_lines(CodeJob(Subject(Path("out.pt"), Policy(allow=ALLOW))), host).text


def test_timm_gets_a_registered_function(library: Make) -> None:
    net = library("timm")(num_classes=3)
    net.pretrained_cfg = {"architecture": "net.a1", "num_classes": 8}  # type: ignore[assignment] # as timm sets it

    text = lines(net, "timm")

    assert text == (
        "import timm\nfrom timm.models import register_model\nimport torch\n"
        "from modswap.nn import SEBlock\n\n\n@register_model\n"
        "def net_swapped(pretrained=False, **kwargs):\n"
        '    """net.a1 with SEBlock: for create_model and timm\'s scripts."""\n'
        '    model = timm.create_model("net.a1", **{"num_classes": 3, **kwargs})\n'
        "    model.model[1] = SEBlock(channel=8, reduction=2)\n    return model\n\n\n"
        'model = timm.create_model("net_swapped")\n'
        'weights = torch.load("out.pt", map_location="cpu", weights_only=False).state_dict()\n'
        "model.load_state_dict(weights)\n"
    )


def test_standalone_file_builds_by_the_call_of_the_library(library: Make) -> None:
    rule = {"match": "model.1", "with": "SEBlock"}
    calls = []
    for package, facts in (
        ("timm", {"pretrained_cfg": {"architecture": "net"}, "num_classes": 3}),
        ("segmentation_models_pytorch", {"config": {"encoder_name": "small"}}),
        ("segmentation_models_pytorch", {}),
        ("ultralytics", {}),
    ):
        net = library(package)(num_classes=3) if package == "timm" else library(package)()
        vars(net).update(facts)
        modswap.replace(net, quick(rule))
        modswap.save(net, "out.pt", force=True)
        asked = CodeJob(Subject(Path("out.pt"), Policy(allow=ALLOW)))
        text = job.standalone_file(asked).text
        calls.append(text.partition("def _build() -> nn.Module:\n")[2].splitlines()[0].strip())

    assert calls[:2] == [
        "model = create_model(model_name='net', pretrained=False, num_classes=3)",
        "model = Net(encoder_name='small', encoder_weights=None)",
    ]
    assert all(one.startswith('raise ValueError("this file loads whole') for one in calls[2:])


class Settings(SimpleNamespace):
    """A configuration as transformers has them."""

    def to_diff_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Settings":
        return cls(**values)


def test_standalone_file_builds_by_a_configuration(
    library: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Configured(library("transformers")):  # type: ignore[misc] # made for this test
        def __init__(self, config: Settings) -> None:
            super().__init__(**vars(config))
            self.config = config

    settings = type("Settings", (Settings,), {"__module__": "transformers.nets"})
    Configured.__module__, Configured.__qualname__ = "transformers.nets", "Configured"
    for cls in (Configured, settings):
        monkeypatch.setattr(sys.modules["transformers.nets"], cls.__name__, cls, raising=False)
    net = Configured(settings(num_classes=3))
    modswap.replace(net, quick({"match": "model.1", "with": "SEBlock"}))
    modswap.save(net, "out.pt")

    text = job.standalone_file(CodeJob(Subject(Path("out.pt"), Policy(allow=ALLOW)))).text

    assert '    model = Configured(Settings.from_dict({"num_classes": 3}))\n' in text
    # its constructor does more than making the modules: a whole module is built anew
    assert "if isinstance(found, nn.Module):\n        found = found.state_dict()\n" in text


def test_timm_takes_the_call_that_is_named_and_other_weights(library: Make) -> None:
    net = library("timm")()
    modswap.replace(net, quick({"match": "model.1", "with": "SEBlock"}))
    modswap.save(net, "out.safetensors")
    state = {f"module.{name}": tensor for name, tensor in net.state_dict().items()}
    torch.save({"epoch": 1, "state_dict": state}, "training.pt")
    model = "timm:create_model('net', pretrained=False, num_classes=8)"

    text = job.host_lines(CodeJob(Subject(Path("out.safetensors"), Policy(), model)), "timm").text

    assert 'timm.create_model("net", **{"num_classes": 8, **kwargs})' in text
    assert 'weights = load_file("out.safetensors")\nmodel.load_state_dict(weights)\n' in text


def test_smp_and_transformers_get_a_subclass(library: Make) -> None:
    net = library("segmentation_models_pytorch")()
    net.config = {"encoder_name": "small", "encoder_weights": "imagenet"}  # type: ignore[assignment] # as smp sets it
    assert (
        "class SwappedNet(smp.Net):\n"
        '    """Net with SEBlock; from_pretrained builds it too."""\n\n'
        "    def __init__(self, **config):\n"
        '        super().__init__(**{**{"encoder_name": "small", "encoder_weights": None}, '
    ) in lines(net, "smp")

    other = library("transformers")
    config = SimpleNamespace(to_diff_dict=lambda: {"depth": 1})
    cls = type("Net", (other,), {"__module__": "transformers.nets", "config": config,
               "__init__": lambda self, _=None: other.__init__(self)})  # fmt: skip
    sys.modules["transformers.nets"].Net = cls  # type: ignore[attr-defined] # a stand-in
    text = lines(cls(), "transformers", "model.2")
    made = 'SimpleNamespace.from_dict({"depth": 1})\nmodel = SwappedNet(config)\n'
    assert made in text
    assert "class SwappedNet(transformers.Net):\n" in text
    assert "        self.model[2] = SEBlock(channel=8, reduction=2)\n" in text


def test_ultralytics_gets_classes_of_its_yaml_or_a_trainer(library: Make) -> None:
    base = library("ultralytics")
    rows = [[-1, 1, "Conv", [8, 1]] for _ in range(3)]
    config = {"backbone": rows[:2], "head": rows[2:], "yaml_file": "cfg/net.yaml"}
    cls = type("Net", (base,), {"__module__": "ultralytics.nets",
               "__init__": lambda self, *_, **__: base.__init__(self)})  # fmt: skip
    sys.modules["ultralytics.nets"].Net = cls  # type: ignore[attr-defined] # a stand-in
    net = cls()
    net.yaml = config

    text = lines(net, "ultralytics", "model.2")

    assert "class Swapped2(SEBlock):\n" in text
    assert "super().__init__(channel=8, reduction=2)\n\n\ntasks.Swapped2 = Swapped2\n" in text
    assert "'head': [[-1, 1, 'Swapped2', [0]]]" in text
    assert config["head"] == rows[2:]
    assert "weights_only=False).float().state_dict()" in text
    modswap.replace(net, quick({"after": "model.0", "with": "SEBlock"}, key="insert"))
    modswap.save(net, "beside.pt", force=True)
    with pytest.raises(UsageError, match="the file is no checkpoint of Ultralytics"):
        job.host_lines(CodeJob(Subject(Path("beside.pt"), Policy(allow=ALLOW))), "ultralytics")
    torch.save({"model": modswap.load("beside.pt", allow=ALLOW)}, "last.pt")
    subject = Subject(Path("last.pt"), Policy(allow=ALLOW))
    with pytest.raises(UsageError, match="no swap is known"):
        job.host_lines(CodeJob(subject), "ultralytics")


def test_configuration_with_the_swap_is_kept_in_the_file(library: Make) -> None:
    base = library("ultralytics")
    cls = type("Net", (base,), {"__module__": "ultralytics.nets",
               "__init__": lambda self, *_, **__: base.__init__(self)})  # fmt: skip
    sys.modules["ultralytics.nets"].Net = cls  # type: ignore[attr-defined] # a stand-in
    net = cls()
    net.yaml = {"backbone": [[-1, 1, "Conv", [8, 1]] for _ in range(3)], "head": []}
    lines(net, "ultralytics")
    one = CodeJob(Subject(Path("out.pt"), Policy(allow=ALLOW)), out=Path("kept.pt"))

    job.host_lines(one, "ultralytics")

    kept: Any = modswap.load("kept.pt", allow=ALLOW)
    assert kept.yaml["backbone"][1] == [-1, 1, "Swapped1", [0]]
    assert type(kept.model[1]).__name__ == "SEBlock"
    net = library("timm")()
    vars(net)["pretrained_cfg"] = {"architecture": "net", "num_classes": 8}
    lines(net, "timm")
    with pytest.raises(UsageError, match="no configuration of the library holds this swap"):
        job.host_lines(replace(one, out=Path("other.pt")), "timm")


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ("timm", "it does not say which of timm's models it is"),
        ("smp", "its class Net is none of segmentation_models_pytorch"),
        ("transformers", "its class Net is none of transformers"),
        ("ultralytics", "its class Net is none of ultralytics"),
    ],
)
def test_model_of_another_library_is_refused(host: str, message: str, library: Make) -> None:
    with pytest.raises(UsageError, match=message):
        lines(library("timm" if host == "timm" else "others")(), host)


def test_timm_is_no_library_of_another_model(library: Make) -> None:
    with pytest.raises(UsageError, match="its class Net is none of timm"):
        lines(library("others")(), "timm")
