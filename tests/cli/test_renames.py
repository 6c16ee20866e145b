"""Options for files whose names are others than those of the model."""

from pathlib import Path

import pytest
import torch

from tests.cli.test_commands import modswap  # noqa: F401 - a fixture
from tests.commands import Command
from tests.models import GatedNet

MODEL = ("--model", "tests.models:GatedNet")
STRIP, RENAME = ("--strip-prefix", "backbone"), ("--rename", "backbone.=")


@pytest.fixture
def call(modswap: Command) -> Command:  # noqa: F811 - the fixture
    state = {f"backbone.{name}": tensor for name, tensor in GatedNet().state_dict().items()}
    torch.save(state, "other.pt")
    return modswap


def test_fix_of_the_error_is_the_option_that_helps(call: Command) -> None:
    ran = call("check", "other.pt", "-c", "swap.yaml", *MODEL)

    assert ran.code == 2
    assert ran.err.endswith("fix: the names differ, and all fit with `--strip-prefix backbone.`\n")
    assert call("check", "other.pt", "-c", "swap.yaml", *MODEL, *STRIP).code == 0


@pytest.mark.one_in(2)
@pytest.mark.parametrize("options", [STRIP, RENAME])
def test_commands_that_load_weights_take_the_options(
    options: tuple[str, ...], call: Command
) -> None:
    shown = call("tree", "other.pt", *MODEL, *options)
    ran = call("replace", "other.pt", "-c", "swap.yaml", "-o", "o.pt", *MODEL, *options)
    recipe = call("init", "other.pt", "--input", "1,3,32,32", *MODEL, *options)

    assert "in the file: backbone.stem" in shown.out
    assert ran.code == 0, ran.err
    assert "in the file: backbone.space_attention" in ran.out
    assert recipe.code == 0, recipe.err
    assert Path("o.pt").is_file()


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["tree", "other.pt", "--rename", "a"], "--rename: 'a' is no OLD=NEW"),
        (["tree", "other.pt", "--rename", "a=a"], "--rename: 'a=a' is no OLD=NEW"),
        (["tree", "other.pt", "--strip-prefix", ""], "--strip-prefix: the prefix is empty"),
        (["tree", "other.pt", *STRIP], "other names need a model, and the file holds weights"),
        (
            ["replace", "other.pt", "-c", "swap.yaml", "-o", "o.pt", "--no-forward", *STRIP],
            "--rename: --no-forward builds no model",
        ),
    ],
)
def test_wrong_renamings_are_refused(args: list[str], said: str, call: Command) -> None:
    ran = call(*args)

    assert ran.code == 2
    assert said in ran.err
