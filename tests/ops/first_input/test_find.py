"""The input that is found: from the file, from the model, or a usual one that the model takes.

Covers: said, settings, transformers, usual.
"""

from argparse import Namespace
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from modswap.core.asked.job import Job, Policy, Subject
from modswap.core.asked.recipe import CallInput, TensorInput
from modswap.core.errors import UsageError
from modswap.io.formats.container import Container
from modswap.io.formats.exported.program import ATTRIBUTE, Export
from modswap.io.recipe.reader import parse_recipe
from modswap.ops.first_input import find as finder
from modswap.ops.first_input.find import find_input, first_pass, settled
from modswap.ops.first_input.settings import MAX_ENTRIES, sizes_in
from modswap.ops.load.model import Loaded
from modswap.ops.run.inputs import DummyCall


def loaded(model: nn.Module, payload: Any = None, recipe: str | None = None) -> Loaded:
    container = Container("torch", Path("net.pt"), payload, (), recipe=recipe)
    return Loaded(model.eval(), container)


def taken(model: nn.Module, payload: Any = None, recipe: str | None = None) -> tuple[str, str]:
    """Return the input that is found and the reason."""
    record = find_input(loaded(model, payload, recipe), "net.pt").record
    return record.shown, record.why


def with_attributes(model: nn.Module, **values: Any) -> nn.Module:
    for name, value in values.items():
        setattr(model, name, value)
    return model


def conv(channels: int = 3) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels, 4, 3, padding=1))


class Classifier(nn.Module):
    """A convolution and a layer for maps of one size: (N, channels, side, side) -> (N, 2)."""

    def __init__(self, side: int, channels: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 2, 3, padding=1)
        self.head = nn.Linear(2 * side * side, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.conv(x).flatten(1))
        return out


class HeadFirst(nn.Module):
    """A model whose layers are registered in another order than they run."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.head = nn.Conv2d(32, 2, 1)
        self.stem = nn.Conv2d(channels, 32, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.stem(x))
        return out


class Denoiser(nn.Module):
    """A map and a step of time: (N, 3, H, W), (N,) -> (N, 4, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.time = nn.Embedding(1000, 4)

    def forward(self, x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.conv(x) + self.time(timestep)[:, :, None, None]
        return out


class Listed(nn.Module):
    """A detector that takes a list of pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, images: list[torch.Tensor]) -> torch.Tensor:
        out: torch.Tensor = self.conv(torch.stack(images))
        return out


class TwoInputs(nn.Module):
    """Two branches: (N, 3, H, W), (N, 1, H, W) -> (N, 8, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.color = nn.Conv2d(3, 8, 1)
        self.depth = nn.Conv2d(1, 8, 1)

    def forward(self, color: torch.Tensor, depth: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.color(color) + self.depth(depth)
        return out


class ByValue(nn.Module):
    """A model whose shapes depend on values."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.conv(x)
        return out if out.mean().item() > 0 else -out


class Refusing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise ValueError(f"it takes no {tuple(x.shape)}")


class Tokens(nn.Module):
    """Embeddings with a place for each of some tokens."""

    def __init__(self, places: int) -> None:
        super().__init__()
        self.words = nn.Embedding(9, 8)
        self.places = nn.Parameter(torch.zeros(places, 8))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.words(ids) + self.places
        return out


USUAL: Mapping[str, tuple[nn.Module, str]] = {
    "picture": (conv(), "(1, 3, 224, 224)"),
    "picture of one channel": (conv(1), "(1, 1, 224, 224)"),
    "fixed side": (Classifier(28), "(1, 1, 28, 28)"),
    "other fixed side": (Classifier(32, 3), "(1, 3, 32, 32)"),
    "registered later": (HeadFirst(3), "(1, 3, 224, 224)"),
    "registered later, few channels": (HeadFirst(5), "(1, 5, 224, 224)"),
    "two branches": (TwoInputs(), "(1, 3, 224, 224), (1, 1, 224, 224)"),
    "step of time": (Denoiser(), "(1, 3, 224, 224), (1) int64"),
    "list": (Listed(), "[(3, 224, 224)]"),
    "words": (nn.Sequential(nn.Embedding(9, 8), nn.Linear(8, 2)), "(1, 16) int64"),
    "words of a fixed number": (Tokens(77), "(1, 77) int64"),
    "tokens": (
        nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 1),
        "(1, 16, 8)",
    ),
    "source and target": (
        nn.Transformer(8, 2, 1, 1, 16, batch_first=True),
        "(1, 16, 8), (1, 16, 8)",
    ),
    "features": (nn.Sequential(nn.Flatten(), nn.Linear(784, 2)), "(1, 784)"),
    "features, normed": (nn.Sequential(nn.BatchNorm1d(20), nn.Linear(20, 2)), "(1, 20)"),
    "features behind a norm": (nn.Sequential(nn.LayerNorm(20), nn.Linear(20, 2)), "(1, 16, 20)"),
    "sequence": (nn.LSTM(5, 7), "(1, 16, 5)"),
    "signal": (nn.Sequential(nn.Conv1d(12, 4, 3)), "(1, 12, 1024)"),
    "volume": (nn.Sequential(nn.Conv3d(1, 4, 3)), "(1, 1, 16, 112, 112)"),
    "values": (ByValue(), "(1, 3, 224, 224)"),
}


@pytest.mark.one_in(2)
@pytest.mark.parametrize("kind", USUAL)
def test_usual_input_fits_the_first_layers(kind: str) -> None:
    model, expected = USUAL[kind]

    assert taken(model)[0] == expected


NAMED = Namespace(img_size=96)
SAID: Mapping[str, tuple[Any, str, str]] = {
    "ultralytics": ({"train_args": {"imgsz": 320}}, "(1, 3, 320, 320)", "train_args.imgsz"),
    "yolov5": ({"opt": {"imgsz": 416}}, "(1, 3, 416, 416)", "opt.imgsz"),
    "two sides": ({"args": {"imgsz": [96, 160]}}, "(1, 3, 96, 160)", "args.imgsz"),
    "namespace": ({"args": NAMED}, "(1, 3, 96, 96)", "args.img_size"),
    "lightning": ({"hyper_parameters": {"image_size": 48}}, "(1, 3, 48, 48)", "image_size"),
    "with channels": ({"cfg": {"input_size": (3, 80, 96)}}, "(1, 3, 80, 96)", "cfg.input_size"),
    "with a batch": ({"input_shape": [8, 3, 64, 32]}, "(1, 3, 64, 32)", "input_shape"),
    "by name": ({"c": {"image_size": {"height": 32, "width": 64}}}, "(1, 3, 32, 64)", "image_size"),
    "channels that do not fit": ({"in_chans": 7, "img_size": 32}, "(1, 3, 32, 32)", "img_size"),
    "text": ({"img_size": "64"}, "(1, 3, 224, 224)", "a usual one"),
    "too large": ({"img_size": 10**9}, "(1, 3, 224, 224)", "a usual one"),
    "too large together": ({"img_size": 4096}, "(1, 3, 224, 224)", "a usual one"),
    "truth": ({"img_size": True}, "(1, 3, 224, 224)", "a usual one"),
    "list of lists": ({"img_size": [[1]]}, "(1, 3, 224, 224)", "a usual one"),
    "nothing": ({"epoch": 3, "optimizer": {"state": {0: {}}}}, "(1, 3, 224, 224)", "a usual one"),
}


@pytest.mark.parametrize("kind", SAID)
def test_size_in_the_settings_of_a_file_is_taken(kind: str) -> None:
    payload, expected, why = SAID[kind]

    shown, reason = taken(conv(), payload)

    assert shown == expected
    assert why in reason


OF_MODEL: Mapping[str, tuple[nn.Module, str, str]] = {
    "timm": (
        with_attributes(conv(), pretrained_cfg={"input_size": (3, 160, 160)}),
        "(1, 3, 160, 160)",
        "as pretrained_cfg.input_size in the model says",
    ),
    "timm, other channels": (
        with_attributes(conv(1), pretrained_cfg={"input_size": (3, 160, 160)}),
        "(1, 1, 160, 160)",
        "as pretrained_cfg.input_size in the model says",
    ),
    "torchvision": (
        with_attributes(conv(), image_size=48),
        "(1, 3, 48, 48)",
        "as image_size in the model says",
    ),
    "transformers": (
        with_attributes(conv(), config=SimpleNamespace(image_size=48, num_channels=3)),
        "(1, 3, 48, 48)",
        "as config.image_size in the model says",
    ),
    "a model inside": (
        nn.Sequential(OrderedDict(backbone=with_attributes(conv(), img_size=(32, 64)))),
        "(1, 3, 32, 64)",
        "as img_size in the model's backbone says",
    ),
    "a size that the model does not take": (
        with_attributes(Classifier(28), img_size=48),
        "(1, 1, 28, 28)",
        "a usual one, with the sizes of the first layer 'conv'",
    ),
    "example": (
        with_attributes(conv(2), example_input_array=torch.zeros(2, 2, 20, 24)),
        "(2, 2, 20, 24)",
        "the model's own example_input_array",
    ),
    "examples": (
        with_attributes(
            TwoInputs(), example_input_array=(torch.zeros(1, 3, 8, 8), torch.zeros(1, 1, 8, 8))
        ),
        "(1, 3, 8, 8), (1, 1, 8, 8)",
        "the model's own example_input_array",
    ),
    "examples by name": (
        with_attributes(
            Denoiser(),
            example_input_array={"x": torch.zeros(1, 3, 8, 8), "timestep": torch.tensor([3])},
        ),
        "x=(1, 3, 8, 8), timestep=(1) int64",
        "the model's own example_input_array",
    ),
    "no example": (
        with_attributes(conv(), example_input_array=None),
        "(1, 3, 224, 224)",
        "a usual one, with the sizes of the first layer '0'",
    ),
    "library": (
        type("Yolo", (nn.Sequential,), {"__module__": "ultralytics.nn.tasks"})(nn.Conv2d(3, 4, 1)),
        "(1, 3, 640, 640)",
        "the default of its library",
    ),
}


@pytest.mark.parametrize("kind", OF_MODEL)
def test_size_of_a_model_is_taken(kind: str) -> None:
    model, shown, why = OF_MODEL[kind]

    assert taken(model) == (shown, why)


class Named(nn.Module):
    """A model of transformers: its class names the main input, its config the sizes."""

    def __init__(self, main: str, **config: Any) -> None:
        super().__init__()
        self.main_input_name = main
        self.config = SimpleNamespace(**config)
        self.first = nn.Conv2d(3, 4, 1)

    def forward(self, **inputs: torch.Tensor) -> dict[str, Any]:
        return dict(inputs)


class Words(nn.Module):
    """A model of words alone, whose first input has the main name."""

    main_input_name = "input_ids"

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace()
        self.words = nn.Embedding(9, 8)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.words(input_ids)
        return out


NAMES: Mapping[str, tuple[nn.Module, str]] = {
    "words": (Words(), "(1, 16) int64"),
    "words by name": (Named("input_ids"), "input_ids=(1, 16) int64"),
    "words and decoder": (
        Named("input_ids", is_encoder_decoder=True),
        "input_ids=(1, 16) int64, decoder_input_ids=(1, 4) int64",
    ),
    "words and picture": (
        Named("input_ids", vision_config=SimpleNamespace(image_size=32)),
        "input_ids=(1, 16) int64, pixel_values=(1, 3, 32, 32)",
    ),
    "speech": (Named("input_values"), "input_values=(1, 16000)"),
    "spectrum": (
        Named("input_features", num_mel_bins=8, max_source_positions=10),
        "input_features=(1, 8, 20)",
    ),
    "video": (
        Named("pixel_values", num_frames=4, image_size=32),
        "pixel_values=(1, 4, 3, 32, 32)",
    ),
}


@pytest.mark.parametrize("kind", NAMES)
def test_input_has_the_name_that_its_library_gives_it(kind: str) -> None:
    model, expected = NAMES[kind]

    assert taken(model)[0] == expected


@pytest.mark.parametrize(
    "config",
    [{"num_frames": 4, "image_size": 4096}, {"image_size": 32}, {"num_frames": "4"}],
    ids=["too large", "no video", "text"],
)
def test_named_picture_that_cannot_be_made_is_passed_over(config: Mapping[str, Any]) -> None:
    model = Named("pixel_values", **config)

    with pytest.raises(UsageError, match="no dummy input fits"):
        find_input(loaded(model), "net.pt")


def test_attribute_of_the_models_own_that_raises_is_passed_over() -> None:
    class Raising(nn.Sequential):
        @property
        def main_input_name(self) -> str:
            raise RuntimeError("not yet")

    assert taken(Raising(nn.Conv2d(3, 4, 1)))[0] == "(1, 3, 224, 224)"


def test_spectrum_without_sizes_is_passed_over() -> None:
    with pytest.raises(UsageError, match="no dummy input fits"):
        find_input(loaded(Named("input_features")), "net.pt")


class Conditioned(nn.Module):
    """A map, a step and a text beside it, as in a denoiser of diffusers."""

    def __init__(self, width: object = 12) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 6, 1)
        self.text = nn.Linear(12, 6)
        self._internal_dict = {"sample_size": 16, "in_channels": 4, "cross_attention_dim": width}

    def forward(
        self, sample: torch.Tensor, timestep: torch.Tensor, encoder_hidden_states: torch.Tensor
    ) -> torch.Tensor:
        text = self.text(encoder_hidden_states).mean(1) + timestep[:, None]
        out: torch.Tensor = self.conv(sample) + text[:, :, None, None]
        return out


def test_inputs_beside_a_picture_follow_from_their_names() -> None:
    shown, why = taken(Conditioned())

    assert shown == "(1, 4, 16, 16), (1) int64, (1, 77, 12)"
    assert why == "as _internal_dict.sample_size in the model says"
    with pytest.raises(UsageError, match="no dummy input fits"):
        find_input(loaded(Conditioned(width="12")), "net.pt")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"architecture": "x", "pretrained_cfg": {"input_size": [3, 40, 48]}}', "(1, 3, 40, 48)"),
        ("[1]", "(1, 3, 224, 224)"),
        ("{", "(1, 3, 224, 224)"),
        (None, "(1, 3, 224, 224)"),
    ],
)
def test_configuration_of_a_folder_says_a_size(
    text: str | None, expected: str, tmp_path: Path
) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    container = Container("folder", tmp_path, None, ())

    assert find_input(Loaded(conv(), container), "net").record.shown == expected


INSIDE = "version: 1\ninputs: {}\nreplace: [{{match: a, with: ECA}}]\n"


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ("[{shape: [2, 3, 40, 48]}]", "(2, 3, 40, 48)"),
        ("[{shape: [1, 3, 8, 8]}, {shape: [2, 3, 9, 8]}]", "(1, 3, 8, 8) and (2, 3, 9, 8)"),
        ("[{args: [{shape: [1, 3, 8, 8]}]}]", "(1, 3, 8, 8)"),
        ("[{shape: [1, 3, 100000, 100000]}]", "(1, 3, 224, 224)"),
        ("[{shape: [1, 7, 8, 8]}]", "(1, 3, 224, 224)"),
        ("nonsense", "(1, 3, 224, 224)"),
    ],
)
def test_recipe_inside_a_file_says_its_inputs(inputs: str, expected: str) -> None:
    assert taken(conv(), recipe=INSIDE.format(inputs))[0] == expected


def test_archive_brings_its_own_example() -> None:
    model = conv()
    example = torch.full((1, 3, 9, 7), 2.0)
    vars(model)[ATTRIBUTE] = Export((example,), {}, ("x",))

    found = find_input(loaded(model), "net.pt")

    assert found.calls[0].args[0] is example
    assert found.record.inputs == (TensorInput(shape=(1, 3, 9, 7)),)


def test_no_input_names_what_was_tried_and_how_to_give_one() -> None:
    with pytest.raises(UsageError) as caught:
        find_input(loaded(Refusing()), "r.yaml", " or `inputs:` in the recipe")

    error = caught.value
    assert error.where == "r.yaml"
    assert "tried: (1, 3, 224, 224), (1, 3, 256, 256), " in error.what
    assert " more; the first was refused: ValueError: it takes no (1, 3, 224, 224)" in error.what
    assert error.fix.endswith("once for each tensor of the call or `inputs:` in the recipe")


def test_model_without_layers_shows_no_input() -> None:
    with pytest.raises(UsageError, match="tried: none, since no layer shows the shape"):
        find_input(loaded(nn.Sequential(nn.Flatten())), "net.pt")


def test_forward_without_a_signature_is_tried_with_one_tensor() -> None:
    model = conv()
    model.forward = getattr  # a function of C, which shows no inputs

    with pytest.raises(UsageError, match=r"tried: \(1, 3, 224, 224\),"):
        find_input(loaded(model), "net.pt")


def test_search_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finder, "SECONDS", -1.0)

    with pytest.raises(UsageError, match="the first was refused"):
        find_input(loaded(Classifier(28)), "net.pt")


def test_weights_without_data_are_tried_without_values() -> None:
    with torch.device("meta"):
        model = Classifier(28)

    assert taken(model)[0] == "(1, 1, 28, 28)"
    with torch.device("meta"), pytest.raises(UsageError, match="the first was refused"):
        find_input(loaded(Refusing()), "net.pt")


def job(own: str = "", *, options: bool = False, **subject: Any) -> Job:
    text = f"version: 1\n{own}replace: [{{match: '0', with: ECA}}]\n"
    shown: dict[tuple[str | int, ...], str] = {("replace", 0): "--match"} if options else {}
    recipe = parse_recipe(text, "swap.yaml", ".", options=shown)
    return Job(Subject(Path("net.pt"), Policy(), **subject), recipe)


def test_given_inputs_stay_and_the_command_goes_before_the_recipe() -> None:
    own = "inputs: [{shape: [1, 3, 8, 8]}]\n"
    tensors = (TensorInput(shape=(1, 3, 9, 9)), TensorInput(shape=(1,)))

    kept, given = (
        settled(job(own), loaded(conv())),
        settled(job(own, inputs=tensors), loaded(conv())),
    )

    assert kept.job.recipe.inputs == (TensorInput(shape=(1, 3, 8, 8)),)
    assert (kept.calls, kept.found, kept.notes) == ((), None, ())
    args = ({"shape": (1, 3, 9, 9)}, {"shape": (1,)})
    assert given.job.recipe.inputs == (CallInput(args=args),)
    assert (str(given.calls[0]), given.found) == ("(1, 3, 9, 9), (1)", None)


def test_auto_goes_before_the_recipe() -> None:
    own = "inputs: [{shape: [1, 3, 8, 8]}]\n"

    found = settled(job(own, find_input=True), loaded(conv()))

    assert found.job.recipe.inputs == (TensorInput(shape=(1, 3, 224, 224)),)
    assert found.notes[0].startswith("no input was given: took (1, 3, 224, 224), a usual one")


@pytest.mark.parametrize(
    ("options", "subject", "where"),
    [(False, {}, "swap.yaml"), (True, {}, "--input"), (False, {"find_input": True}, "--input")],
)
def test_place_of_a_missing_input_is_where_it_would_be_given(
    options: bool, subject: dict[str, Any], where: str
) -> None:
    with pytest.raises(UsageError) as caught:
        settled(job(options=options, **subject), loaded(Refusing()))

    assert caught.value.where == where


def test_value_that_no_recipe_holds_is_left_out_of_it() -> None:
    call = DummyCall((TensorInput(shape=(1, 3, 8, 8)), slice(1)), {})

    record = replace(find_input(loaded(conv()), "net.pt"), calls=(call,)).record

    assert record.inputs == ()


def test_first_pass_of_a_given_input_fails_with_its_shape() -> None:
    subject = Subject(Path("net.pt"), inputs=(TensorInput(shape=(1, 5, 8, 8)),))

    with pytest.raises(UsageError, match=r"tried: \(1, 5, 8, 8\); the first was refused"):
        first_pass(loaded(conv()), subject)
    assert first_pass(loaded(conv(5)), subject).calls[0].tensors == subject.inputs


def test_settings_of_any_number_are_looked_at_up_to_a_bound() -> None:
    many = {f"k{number}": {"img_size": 8} for number in range(3 * MAX_ENTRIES)}

    assert 0 < len(list(sizes_in(many, "the file"))) <= MAX_ENTRIES
