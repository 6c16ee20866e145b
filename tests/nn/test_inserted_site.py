"""Modules that have others beside them: names, copies, files, containers, hosts."""

import copy
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from modswap.core.seen.joint import Form, Joint
from modswap.nn.eca import ECA
from modswap.nn.inserted_site import (
    InsertedSite,
    blank,
    class_of_site,
    inserted_names,
    own_class,
    put_in,
    refusal,
    take_out,
    without_others,
)
from modswap.nn.insertion import Insertion


def eca(form: Form = "scale", gate: float = 0.5) -> Insertion:
    new = Insertion(ECA(8), Joint("after", form, 8, 2))
    if new.gate is not None:
        new.gate.data.fill_(gate)
    return new


def layer(site: nn.Module, name: str = "eca") -> nn.Module:
    """Return the new module beside another one, without its gate."""
    new = site._modules[name]
    assert isinstance(new, Insertion)
    return new.module


def stage() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())


X = torch.randn(2, 8, 6, 6, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def site() -> nn.Sequential:
    torch.manual_seed(0)
    made = stage().eval()
    put_in(made, "eca", eca())
    return made


def test_nothing_that_a_host_reads_changes(site: nn.Sequential) -> None:
    plain = without_others(site)
    assert type(plain) is nn.Sequential
    assert isinstance(site, nn.Sequential)
    assert type(site).__name__ == "Sequential"
    assert type(site).__module__ == nn.Sequential.__module__
    assert own_class(site) is nn.Sequential is own_class(plain)
    assert set(plain.state_dict()) < set(site.state_dict())
    added = {name for name in site.state_dict() if name not in plain.state_dict()}
    assert added == {"eca.gate", "eca.module.conv.weight"}
    assert inserted_names(site) == ("eca",)
    assert inserted_names(plain) == ()


def test_a_container_counts_its_members_alone(site: nn.Sequential) -> None:
    assert len(site) == 3
    assert [type(m) for m in site] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]
    assert isinstance(site[-1], nn.ReLU)
    part: Any = site[0:2]
    assert type(part) is nn.Sequential
    assert len(part) == 2
    assert site[0] in site
    contains: Any = site.__contains__
    assert site._modules["eca"] not in [*site]
    assert not contains(site._modules["eca"])
    site.append(nn.Identity())
    assert len(site) == 4
    assert [*site._modules][-1] == "eca"
    del site[3]
    assert len(site) == 3


def test_containers_by_name_and_lists_count_their_members_alone() -> None:
    named, listed = nn.ModuleDict({"a": nn.ReLU()}), nn.ModuleList([nn.ReLU()])
    for one in (named, listed):
        put_in(one, "eca", eca())

    assert [*named] == [*named.keys()] == ["a"]
    assert [type(m) for m in named.values()] == [nn.ReLU]
    assert [name for name, _ in named.items()] == ["a"]
    assert "a" in named
    assert "eca" not in named
    assert isinstance(named["a"], nn.ReLU)
    assert len(listed) == 1


def test_the_output_is_what_a_chain_by_hand_gives(site: nn.Sequential) -> None:
    y = without_others(site)(X)
    expected = y + 0.5 * (layer(site)(y) - y)

    torch.testing.assert_close(site(X), expected)
    torch.testing.assert_close(site.forward(X), expected)
    torch.testing.assert_close(copy.deepcopy(site)(X), site(X))
    assert type(copy.deepcopy(site)) is type(site)


def test_before_changes_the_input_of_its_module_alone() -> None:
    conv = nn.Conv2d(8, 4, 1)
    new = Insertion(ECA(8), Joint("before", "plain", source=(0,)))
    expected = conv(new.module(X))
    put_in(conv, "eca", new)

    torch.testing.assert_close(conv(X), expected)


def test_around_is_a_parallel_branch_computed_before_a_module_that_works_in_place() -> None:
    relu = nn.ReLU(inplace=True)
    new = Insertion(nn.Conv2d(8, 8, 1), Joint("around", "add", 8, 2, (0,)))
    assert new.gate is not None
    new.gate.data.fill_(1.0)
    expected = X.relu() + new.module(X)
    put_in(relu, "conv", new)

    torch.testing.assert_close(relu(X.clone()), expected)


def test_instead_fades_to_the_new_module() -> None:
    old, new = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, padding=1)
    expected = new(X)
    insertion = Insertion(new, Joint("instead", "blend", 8, 2))
    assert insertion.gate is not None
    put_in(old, "conv2d", insertion)
    assert torch.equal(old(X), without_others(old)(X))
    insertion.gate.data.fill_(1.0)

    torch.testing.assert_close(old(X), expected)


def test_several_run_in_order_and_the_last_leaves_the_plain_class() -> None:
    conv = nn.Conv2d(8, 8, 1)
    for name in ("first", "second"):
        put_in(conv, name, eca("plain"))
    expected = layer(conv, "second")(layer(conv, "first")(without_others(conv)(X)))
    torch.testing.assert_close(conv(X), expected)

    taken = take_out(conv, "first")

    assert isinstance(taken, Insertion)
    assert isinstance(conv, InsertedSite)
    take_out(conv, "second")
    assert type(conv) is nn.Conv2d
    assert "_inserted" not in vars(conv)


def test_a_method_in_place_of_forward_runs_inside(site: nn.Sequential) -> None:
    class Fused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(8, 8, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.forward_fuse(x) + 1

        def forward_fuse(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.conv(x)
            return out

    one = Fused()
    put_in(one, "eca", eca())
    one.forward = one.forward_fuse  # type: ignore[method-assign] # as Ultralytics does
    y = one.conv(X)
    torch.testing.assert_close(one(X), y + 0.5 * (layer(one)(y) - y))
    assert "forward" not in vars(one)

    plain = without_others(one)
    torch.testing.assert_close(plain(X), y)
    del one.forward
    y = one.conv(X) + 1
    torch.testing.assert_close(one(X), y + 0.5 * (layer(one)(y) - y))

    fused = Fused()
    fused.forward = fused.forward_fuse  # type: ignore[method-assign] # before it is a site
    put_in(fused, "eca", eca())
    assert isinstance(take_out(fused, "eca"), Insertion)
    torch.testing.assert_close(fused(X), fused.conv(X))
    assert "forward" in vars(fused)


def test_a_wrapper_around_forward_stays(site: nn.Sequential) -> None:
    calls = []
    inner: Any = site.forward

    def counted(x: torch.Tensor) -> Any:
        calls.append(1)
        return inner(x)

    expected = site(X)
    site.forward = counted  # type: ignore[method-assign] # as libraries for offloading do

    assert torch.equal(site(X), expected)
    assert calls == [1]


def test_hooks_state_dicts_and_training_work_as_before(site: nn.Sequential) -> None:
    seen = []
    site.register_forward_hook(lambda _m, _a, out: seen.append(out))
    y = site(X)
    assert torch.equal(seen[0], y)
    other = stage().eval()
    put_in(other, "eca", eca())
    other.load_state_dict(site.state_dict())
    assert torch.equal(other(X), y)
    site.train()(X).sum().backward()
    assert all(p.grad is not None for p in site.parameters())


@pytest.mark.ci
@pytest.mark.slow
def test_a_file_of_the_whole_module_runs_in_a_fresh_process(
    site: nn.Sequential, tmp_path: Path
) -> None:
    torch.save(site, tmp_path / "site.pt")
    torch.save((X, site(X)), tmp_path / "data.pt")
    code = (
        "import torch\n"
        "site = torch.load('site.pt', weights_only=False)\n"
        "x, y = torch.load('data.pt')\n"
        "torch.testing.assert_close(site(x), y)\n"
        "print(len(site), type(site).__name__)"
    )

    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )

    assert ran.stdout == "3 Sequential\n"


@pytest.mark.filterwarnings("ignore")
def test_compilers_and_exporters_take_it(site: nn.Sequential) -> None:
    expected = site(X)

    traced = torch.jit.trace(site, (X,))
    exported = torch.export.export(site, (X,)).module()
    compiled = torch.compile(site, backend="eager", fullgraph=True)

    for other in (traced, exported, compiled):
        torch.testing.assert_close(other(X), expected)


class Reducing(nn.Module):
    """A module that copies itself in a way of its own."""

    def __reduce__(self) -> Any:
        return Reducing, ()


@pytest.mark.filterwarnings("ignore")
def test_what_cannot_have_others_beside_it_is_refused() -> None:
    own = refusal(Reducing(), "a")
    root = refusal(nn.ReLU(), "")
    assert own is not None
    assert "copies itself in its way" in own.what
    assert root is not None
    assert "the model itself" in root.what
    assert refusal(torch.jit.script(nn.ReLU()), "a") is not None
    assert refusal(nn.ReLU(), "a") is None
    put_in(late := nn.ReLU(), "eca", eca())
    assert refusal(late, "a") is None
    with pytest.raises(TypeError, match="expected a class derived from"):
        blank(int)  # type: ignore[arg-type] # a file may say anything


def test_an_object_that_copies_itself_otherwise_is_no_site() -> None:
    made = Reducing()
    made.__class__ = class_of_site(Reducing)  # type: ignore[assignment] # past the refusal

    with pytest.raises(TypeError, match="__reduce__ of its own"):
        torch.save(made, io.BytesIO())
