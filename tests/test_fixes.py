"""No fix leads back to its error: each is taken as it is printed, and the call is made again."""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from modswap.cli.app import run
from tests.fixes.by_hand import reason
from tests.fixes.calls import Call
from tests.fixes.refused import MODELS, Refused
from tests.fixes.said import Said, errors
from tests.fixes.table import CASES
from tests.fixes.ways import ways

Try = Callable[[Call], tuple[int, list[Said]]]
SLOW = (pytest.mark.slow,)
# a few are quick, and some of each kind run before a change lands
TIERS = [(), *[SLOW] * 15, (*SLOW, pytest.mark.ci), *[SLOW] * 23]
OURS = {"net.pt", "there.pt"}


@pytest.fixture
def attempt(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Try:
    """Return a function that makes a call and returns its exit code and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "4000")
    monkeypatch.setattr(sys, "path", [*sys.path])

    def call(one: Call) -> tuple[int, list[Said]]:
        for file in tmp_path.iterdir():
            if file.is_file() and file.name not in OURS:
                file.unlink()
        Path("there.pt").write_text("x")
        if one.recipe is not None:
            Path("swap.yaml").write_text(yaml.safe_dump(one.recipe, sort_keys=False))
        code = run(list(one.args))
        said = capsys.readouterr()
        return code, errors(said.err, said.out)

    return call


def made(case: Refused) -> None:
    torch.manual_seed(0)
    held = MODELS[case.model]()
    torch.save(held.eval() if isinstance(held, nn.Module) else held, "net.pt")


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, id=c.name, marks=TIERS[n % len(TIERS)]) for n, c in enumerate(CASES)],
)
def test_fix_never_leads_back_to_its_error(case: Refused, attempt: Try) -> None:
    made(case)
    code, found = attempt(case.call)

    assert code
    assert found
    for error in found:
        taken = list(ways(case.call, error.what, error.fix))
        if error.command:
            taken.append(Call(tuple(shlex.split(error.command)), case.call.recipe, taken="run"))
        assert taken or reason(error.fix), f"nobody knows how to take this: {error}"
        for way in taken:
            code, again = attempt(way)
            back = [one for one in again if one.fault == error.fault]
            assert not (code and back), f"{way.taken}: {back}"
            assert not (code and way.passes), f"{way.taken} does not pass: {again}"


def test_names_of_cases_are_their_own() -> None:
    names = [case.name for case in CASES]

    assert sorted(set(names)) == sorted(names)
