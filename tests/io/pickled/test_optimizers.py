"""Optimizers in payloads read as data get the parameters of the swapped model."""

from typing import Any

from modswap.core.decided.optimizer import Parameter
from modswap.io.pickled.data import Instance, Name, Storage
from modswap.io.pickled.optimizers import Parameters, remap

PARAMETERS = Parameters(
    before=[Parameter("a", (2,)), Parameter("gate.w", (3,)), Parameter("b", (4,))],
    after=[Parameter("a", (2,)), Parameter("gate.new", (5,)), Parameter("b", (4,))],
    swapped=("gate.",),
)


def moment(*size: int) -> Instance:
    storage = Storage(Name("torch", "FloatStorage"), "0", 1)
    rebuild = Name("torch._utils", "_rebuild_tensor_v2")
    return Instance("called", rebuild, (storage, 0, size, ()))


def optimizer() -> dict[str, Any]:
    state = {0: {"avg": moment(2)}, 1: {"avg": moment(3)}, 2: {"avg": moment(4), "step": 7}}
    return {"state": state, "param_groups": [{"lr": 0.1, "params": [0, 1, 2]}]}


def named() -> dict[str, Any]:
    state = {"net.a": {"avg": moment(2)}, "net.b": {"avg": moment(4)}}
    names = ["net.a", "net.gate.w", "net.b"]
    return {"state": state, "param_groups": [{"params": names, "param_names": ["a", "b", "c"]}]}


def test_state_of_kept_parameters_moves_and_that_of_swapped_ones_goes() -> None:
    held = optimizer()
    last = held["state"][2]

    done = remap({"optimizer": held}, PARAMETERS)

    assert held["param_groups"][0]["params"] == [0, 1, 2]
    assert [*held["state"]] == [0, 2]
    assert held["state"][2] is last
    assert done.left == ("optimizer.state.1.",)
    assert done.renamed == {}
    (note,) = done.notes
    assert note.startswith("'optimizer' was remapped by name: the state of 2 parameters kept, of 1")
    assert note.endswith("dropped; 1 new ones have none yet")


def test_tensors_of_a_state_that_moves_are_renamed() -> None:
    fewer = Parameters(PARAMETERS.before, [PARAMETERS.after[0], PARAMETERS.after[2]], ("gate.",))
    held = optimizer()

    done = remap([{"inner": held}], fewer)

    assert held["param_groups"][0]["params"] == [0, 1]
    assert done.renamed == {"0.inner.state.2.avg": "0.inner.state.1.avg"}


def test_optimizer_that_cannot_be_assigned_is_left_out() -> None:
    wrong = optimizer()
    wrong["state"][0] = {"avg": moment(99)}
    payload = {"optimizer": wrong, "epoch": 3}

    done = remap(payload, PARAMETERS)

    assert payload == {"epoch": 3}
    assert done.left == ("optimizer.",)
    assert done.notes[0].startswith("'optimizer' was left out: its state cannot be assigned")


def test_other_optimizers_of_a_list_keep_their_places() -> None:
    wrong = optimizer()
    wrong["param_groups"] = "none"
    payload = {"optimizers": [wrong, optimizer()]}

    remap(payload, PARAMETERS)

    assert payload["optimizers"][0] == {"state": {}, "param_groups": []}
    assert payload["optimizers"][1]["state"].keys() == {0, 2}


def test_list_in_which_every_optimizer_is_left_out_is_empty() -> None:
    wrong = optimizer()
    wrong["state"] = None
    payload = {"optimizers": [wrong]}

    remap(payload, PARAMETERS)

    assert payload == {"optimizers": []}


def test_optimizers_are_looked_for_in_a_bounded_number_of_containers() -> None:
    near, far = optimizer(), optimizer()

    done = remap({"a": {"b": {"c": {"near": near, "d": {"far": far}}}}}, PARAMETERS)

    assert len(done.notes) == 1
    assert near["state"].keys() == {0, 2}
    assert far["state"].keys() == {0, 1, 2}


def test_names_of_a_group_are_those_of_its_new_parameters() -> None:
    held = optimizer()
    held["param_groups"][0]["param_names"] = ["a", "gate.w", "b"]

    remap({"optimizer": held}, PARAMETERS)

    assert held["param_groups"][0]["param_names"] == ["a", "gate.new", "b"]


def test_shapes_are_found_inside_subclasses_of_tensors() -> None:
    held = optimizer()
    rebuild = Name("torch._utils", "_rebuild_parameter")
    held["state"][0]["avg"] = Instance("called", rebuild, (moment(2), False, {}))

    done = remap({"optimizer": held}, PARAMETERS)

    assert [*held["state"]] == [0, 2]
    assert done.left == ("optimizer.state.1.",)


def test_state_of_tensors_whose_shape_is_unknown_is_assigned_to_none() -> None:
    held = optimizer()
    rebuild = Name("torch._utils", "_rebuild_tensor_v2")
    held["state"][0]["avg"] = Instance("called", rebuild, (3,))

    assert "was left out" in remap({"optimizer": held}, PARAMETERS).notes[0]
