"""The next steps that a page names."""

from dataclasses import replace

from modswap.core.errors import ShapeError
from modswap.report.web.again import routing_line
from modswap.report.web.next_steps import next_steps
from tests.report import outcomes
from tests.report.outcomes import HEALING


def test_checked_swap_is_to_be_written_then_healed() -> None:
    write, heal = next_steps(outcomes.CHECKED)

    assert write.command == "modswap replace unetpp.pt -c configs/unetpp_bra.yaml -o OUT"
    assert heal.command == "modswap heal OUT --against unetpp.pt --data FOLDER -o HEALED"


def test_swap_of_options_is_written_with_the_same_options() -> None:
    args = ("check", "net.pt", "--match", "a", "--with", "ECA", "--format", "html")

    write, *_ = next_steps(outcomes.CHECKED, args)

    assert write.command == "modswap replace net.pt --match a --with ECA -o OUT"


def test_new_modules_behind_gates_are_to_be_trained() -> None:
    train, fold = next_steps(outcomes.BESIDE)

    assert train.what.startswith("Train")
    assert fold.command == "modswap finalize out.pt -o FINAL"


def test_donated_weights_are_to_be_used() -> None:
    site = replace(outcomes.site("a"), start="donor")
    donated = replace(outcomes.DONE, sites=(site,))

    (use,) = next_steps(donated)
    assert use.command == "modswap.load('out.pt')"
    assert next_steps(replace(donated, written=None, command="heal")) == ()


def test_healed_model_is_to_be_used_or_healed_longer() -> None:
    (use,) = next_steps(replace(outcomes.DONE, healing=replace(HEALING, goal=0.9)))
    (more,) = next_steps(replace(outcomes.DONE, healing=replace(HEALING, goal=0.999)))

    assert use.what == f"Use it: the goal of 0.9 is reached on {HEALING.held} samples. In Python:"
    assert use.command.startswith("modswap.load('")
    assert more.what == "Heal longer, or train: top-1 0.990 is below the goal of 0.999"


def test_failure_names_its_fixes() -> None:
    assert [step.what for step in next_steps(outcomes.FAILED)] == ["Set `adapt: true`"]
    bare = replace(outcomes.EARLY, error=ShapeError("what", "gate"))
    assert [step.what for step in next_steps(bare)] == ["See the failed checks below"]


def test_next_commands_load_the_file_as_the_first_one_did() -> None:
    typed = ("replace", "net.pt", "--allow", "a.*", "--model=b:c", "--trust", "--expect", "2")
    (heal,) = next_steps(outcomes.DONE, typed)
    *_, fold = next_steps(outcomes.BESIDE, typed)

    assert heal.command.endswith("--data FOLDER --allow 'a.*' --model=b:c --trust -o HEALED")
    assert fold.command == "modswap finalize out.pt --allow 'a.*' --model=b:c --trust -o FINAL"
    assert "--allow 'a.*'" in routing_line(outcomes.DONE, "a", typed)
