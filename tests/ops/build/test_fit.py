"""Rules fitted to sites, with a forward pass and from layers alone.

Covers: fit_from_layers.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from modswap.core.asked.job import Job, Policy, Subject
from modswap.core.errors import ModswapError
from modswap.core.kept.outcome import SiteOutcome
from modswap.io.recipe.reader import parse_recipe
from modswap.ops.jobs.replace_as_data import replace_unbuilt
from modswap.ops.outcomes import site_outcomes
from modswap.ops.swap import prepare

HEAD = "version: 1\ninputs: [{shape: [2, 3, 28, 28]}]\nreplace:\n  - "


class Sites(nn.Module):
    """Convolutions of two widths, whose sizes a file and a pass show alike."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.a = nn.Conv2d(8, 8, 3, padding=1)
        self.b = nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU())
        self.widen = nn.Conv2d(8, 16, 1)
        self.c = nn.Conv2d(16, 16, 3, padding=1)
        vars(self.a).update(i=4, f=-1)  # as a detector's framework does

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.c(self.widen(self.b(self.a(self.stem(x)))))
        return out


class Prefixed(nn.Module):
    """A module of the user's own that takes a prefix."""

    def __init__(self, channels: int, prefix: str = "") -> None:
        super().__init__()
        self.add_module(f"{prefix}conv", nn.Conv2d(channels, channels, 1))
        self.first = f"{prefix}conv"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.get_submodule(self.first)(x)
        return out


def with_a_pass(rule: str, folder: Path) -> tuple[SiteOutcome, ...]:
    """Return the sites of a rule that is fitted by a forward pass."""
    return site_outcomes(prepare(Sites(), parse_recipe(HEAD + rule, "swap.yaml", ".")))


def from_layers(rule: str, folder: Path) -> tuple[SiteOutcome, ...]:
    """Return the sites of a rule that is fitted without one."""
    torch.save(Sites(), folder / "net.pt")
    subject = Subject(folder / "net.pt", Policy(trust=True))
    outcome = replace_unbuilt(Job(subject, parse_recipe(HEAD + rule, "swap.yaml", ".")))
    assert outcome.error is None
    return outcome.sites


Fitted = Callable[[str, Path], tuple[SiteOutcome, ...]]
both = pytest.mark.parametrize("fitted", [with_a_pass, from_layers])


@both
@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("{match: a, with: SEBlock}", [("a", {"channel": 8}, ())]),
        (
            "{match: '{a,c}', with: SEBlock}",
            [("a", {"channel": 8}, ()), ("c", {"channel": 16}, ())],
        ),
        ("{match: a, with: ACmix, args: {head: 2}}", [("a", {"in_planes": 8, "head": 2}, ())]),
        (
            "{match: '{a,b}', with: SEBlock, share: true}",
            [("a", {"channel": 8}, ("b",)), ("b", {"channel": 8}, ("a",))],
        ),
        (
            f"{{match: c, with: '{__name__}:Prefixed', prefix: p_, args: {{channels: 16}}}}",
            [("c", {"channels": 16, "prefix": "p_"}, ())],
        ),
    ],
)
def test_rule_is_fitted_alike_with_and_without_a_pass(
    fitted: Fitted,
    rule: str,
    expected: list[tuple[str, dict[str, object], tuple[str, ...]]],
    tmp_path: Path,
) -> None:
    sites = fitted(rule, tmp_path)

    for site, (path, args, shared_with) in zip(sites, expected, strict=True):
        assert (site.path, site.shared_with) == (path, shared_with)
        assert args.items() <= site.args.items()


@both
@pytest.mark.parametrize(
    ("rule", "what"),
    [
        (
            "{match: '{a,c}', with: SEBlock, share: true}",
            r"^swap.yaml:4:\d+: one shared instance cannot fit both: c needs SEBlock\(channel=16",
        ),
        ("{match: a, with: SEBlok}", r"^swap.yaml:4:\d+: no module 'SEBlok' in the catalogue"),
        ("{match: a, with: SEBlock, args: {channel: 9}}", "channel"),
        ("{match: a, with: SEBlock, prefix: p}", "has no layers that a prefix could name"),
        ("{match: a, with: SEBlock, args: {wide: 9}}", "wide"),
    ],
)
def test_rule_that_does_not_fit_is_refused_alike_with_and_without_a_pass(
    fitted: Fitted, rule: str, what: str, tmp_path: Path
) -> None:
    with pytest.raises(ModswapError, match=what):
        fitted(rule, tmp_path)


@both
def test_other_spelling_of_a_module_is_said_in_the_report(fitted: Fitted, tmp_path: Path) -> None:
    (site,) = fitted("{match: a, with: SEAttention}", tmp_path)

    assert site.new_class.endswith(".SEBlock")
    assert "SEAttention is another name of SEBlock of the catalogue" in site.notes


class Sized(nn.Module):
    """Has other defaults than a site, and takes one size."""

    def __init__(self, d_model: int = 512, H: int = 4) -> None:  # noqa: N803 - as users write it
        super().__init__()
        self.conv = nn.Conv2d(d_model, d_model, 1)
        self.rows = nn.Linear(H, H)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.rows(self.conv(x).transpose(2, 3)).transpose(2, 3)
        return out


@pytest.mark.parametrize(
    ("args", "note"),
    [
        ("", "made with d_model=8, H=28 of the site, in place of its defaults; by H it takes this"),
        (
            ", args: {d_model: 8, H: auto}",
            "made with H=28 of the site; by H it takes this",
        ),
        (", args: {d_model: 8, H: 28}", ""),
    ],
)
def test_arguments_in_place_of_defaults_are_noted(args: str, note: str, tmp_path: Path) -> None:
    (site,) = with_a_pass(f"{{match: a, with: '{__name__}:Sized'{args}}}", tmp_path)

    (found,) = [one for one in site.notes if one.startswith("made with")] or [""]
    assert found.startswith(note)
    assert bool(found) == bool(note)


@both
def test_only_what_a_host_put_on_a_torch_layer_is_carried_over(
    fitted: Fitted, tmp_path: Path
) -> None:
    (site,) = fitted("{match: a, with: SEBlock}", tmp_path)

    assert "carried over attributes that the host set: f, i" in site.notes
