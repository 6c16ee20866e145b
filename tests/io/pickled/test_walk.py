"""Values of a pickle read as data: recognised and walked through, at any depth.

Covers: values.
"""

from typing import Any

import pytest

from modswap.io.pickled.data import CostlyError, Instance, Name, Storage
from modswap.io.pickled.values import is_weights, mapping, tensor_parts, without_wrappers
from modswap.io.pickled.walk import (
    everything,
    is_plain,
    named_modules,
    named_tensors,
    nesting_flaw,
)

STORAGE = Storage(Name("torch", "HalfStorage"), "0", 6)


def called(module: str, name: str, *args: Any) -> Instance:
    return Instance("called", Name(module, name), args)


def tensor(*size: int) -> Instance:
    return called("torch._utils", "_rebuild_tensor_v2", STORAGE, 0, size, ())


def module(name: str = "nets.Net", **modules: Any) -> Instance:
    home, _, attribute = name.rpartition(".")
    state = {"_modules": modules, "_parameters": {"w": tensor(2)}, "_buffers": {}}
    return Instance("new", Name(home, attribute), (), state)


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def test_everything_is_seen_once_at_any_depth() -> None:
    shared = [1]
    made = called("nets", "make", shared)
    made.append(shared)
    payload = {"a": nested(100_000), (2, "k"): made, "b": {"c": made}}

    found = list(everything(payload))

    assert sum(value is shared for value in found) == 1
    assert sum(value is made for value in found) == 1
    assert made.what in found
    assert (2, "k") in found
    assert len(found) > 100_000


def test_tensors_are_named_by_their_place_and_shared_ones_under_each_name() -> None:
    weight = tensor(2, 3)
    payload = {"model": module(a=module()), "list": [weight, (weight,)], 3: weight, (1,): weight}

    assert [name for name, _ in named_tensors(payload)] == [
        *("model.w", "model.a.w", "list.0", "list.1.0", "3", "<key>"),
    ]


@pytest.mark.parametrize(("depth", "count"), [(31, 1), (32, 0)])
def test_tensors_are_looked_for_in_a_bounded_number_of_containers(depth: int, count: int) -> None:
    value: Any = tensor(1)
    for _ in range(depth + 1):
        value = [value]

    assert len(list(named_tensors(value))) == count


def test_modules_are_named_by_their_paths_in_order() -> None:
    inner = module()

    found = list(named_modules(module(b=module(c=inner), a=inner)))

    assert [path for path, _ in found] == ["", "b", "b.c", "a"]
    assert found[2][1] is found[3][1] is inner


def test_modules_nested_too_deep_are_refused() -> None:
    model = module()
    for _ in range(201):
        model = module(a=model)

    with pytest.raises(CostlyError, match="its modules are nested over 200 deep"):
        list(named_modules(model))
    assert nesting_flaw([model]) == (
        "its modules are nested over 200 deep",
        "do not load it: it was not made by a sound program",
    )
    assert nesting_flaw(model.state["_modules"]["a"]) is None


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (None, True),
        ([1, (2.5, "x", [True])], True),
        (b"bytes", False),
        ({"a": 1}, False),
        ([1, tensor(1)], False),
        (nested(31), True),
        (nested(32), False),
    ],
    ids=repr,
)
def test_numbers_and_texts_in_lists_are_plain(value: Any, *, plain: bool) -> None:
    assert is_plain(value) is plain


def test_list_that_holds_itself_is_not_plain() -> None:
    ring: list[Any] = []
    ring.append(ring)

    assert not is_plain(ring)


def test_container_that_holds_itself_is_found() -> None:
    ring: dict[str, Any] = {}
    ring["up"] = [(ring,)]
    shared = [1]

    assert nesting_flaw({"a": shared, "b": [shared, shared]}) is None
    flaw = nesting_flaw([{"a": ring}])
    assert flaw == ("a dict of it contains itself", "save the model again without the ring")


def test_module_may_hold_itself_in_other_attributes_than_its_modules() -> None:
    model = module()
    model.state["parent"] = model
    assert nesting_flaw(model) is None

    model.state["_modules"] = {"a": model}
    flaw = nesting_flaw(model)
    assert flaw is not None
    assert flaw[0] == "a nets.Net of it contains itself"


def test_containers_that_double_their_paths_at_each_level_are_a_flaw() -> None:
    value: Any = [1]
    model = module()
    for _ in range(60):
        value = {"a": value, "b": [value]}
        model = module(a=model, b=model)

    for payload, paths in ((value, "2,000,000 paths"), (model, "20,000 paths")):
        flaw = nesting_flaw(payload)
        assert flaw is not None
        assert paths in flaw[0]
    with pytest.raises(CostlyError, match="its shared modules have over 20,000 paths"):
        sum(1 for _ in named_modules(model))


@pytest.mark.slow
def test_many_modules_in_one_are_sound() -> None:
    model = module()
    model.state["_modules"] = {str(number): module() for number in range(20_001)}

    assert nesting_flaw(model) is None


def test_many_containers_without_sharing_are_sound() -> None:
    shape = (3, 224, 224)

    assert nesting_flaw([[n] for n in range(30_000)]) is None
    assert nesting_flaw({"shapes": [shape] * 100_000}) is None


def doubled(levels: int) -> Any:
    value: Any = ("ha", "ha")
    for _ in range(levels):
        value = (value, value)
    return value


@pytest.mark.parametrize(
    "payload",
    [
        doubled(40),
        [doubled(40)],
        called("torch", "Size", doubled(40)),
        module("nets.Net").state | {"x": doubled(40)},
        [[list(range(1000))] * 1000] * 1000,
    ],
    ids=["tuple", "list", "argument", "attribute", "wide"],
)
def test_shared_containers_are_a_flaw_wherever_they_are(payload: Any) -> None:
    flaw = nesting_flaw(payload)

    assert flaw is not None
    assert "have over 2,000,000 paths" in flaw[0]


def test_modules_of_many_paths_are_a_flaw_long_before_their_entries_are() -> None:
    model = module()
    for _ in range(15):
        model = module(a=model, b=model)

    assert nesting_flaw(model) == (
        "its shared modules have over 20,000 paths",
        "save the model again with fewer names for each module",
    )


def test_deep_nesting_is_sound() -> None:
    assert nesting_flaw({"a": (nested(20_000),)}) is None


def test_names_that_repeat_in_many_paths_are_a_flaw() -> None:
    model = module()
    model.state["_modules"] = {str(n): module() for n in range(2_000)}
    for _ in range(100):
        model = module(a=model)
        model.state["_modules"] = {"n" * 4_000: model.state["_modules"]["a"]}

    flaw = nesting_flaw(model)

    assert flaw is not None
    assert "the names in it would have over" in flaw[0]
    with pytest.raises(CostlyError, match="a name in it has 8,001"):
        sum(1 for _ in named_modules(model))


def test_paths_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modswap.core.budget.MAX_PATH_CHARACTERS", 5)

    with pytest.raises(CostlyError, match="its paths have over 5 characters"):
        sum(1 for _ in named_modules(module(abc=module(), abd=module())))


def test_ordered_dictionary_is_a_mapping_unless_its_keys_are_none() -> None:
    made = called("collections", "OrderedDict")
    made["a"] = 1
    assert mapping(made) == {"a": 1}

    made[[]] = 2  # a file may say so
    assert mapping(made) is None
    assert mapping([1]) is None


def test_tensor_has_the_bytes_of_its_elements_and_storage() -> None:
    parts = tensor_parts(called("torch._utils", "_rebuild_parameter", tensor(2, 3), True, None))

    assert parts is not None
    assert (parts.numel, parts.itemsize, parts.nbytes, parts.stored) == (6, 2, 12, STORAGE)
    assert (STORAGE.dtype, STORAGE.nbytes) == ("Half", 12)
    assert tensor_parts(called("torch", "zeros", 3)) is None


def test_weights_are_named_tensors_and_extra_states() -> None:
    assert is_weights({"a": tensor(1), "_extra_state": 3})
    assert not is_weights({"a": tensor(1), "epoch": 3})
    assert not is_weights({"_extra_state": 3})
    assert not is_weights({1: tensor(1)})


def test_model_is_taken_out_of_its_wrappers() -> None:
    model = module()
    parallel = module("torch.nn.parallel.DataParallel", module=model)
    compiled = module("torch._dynamo.eval_frame.OptimizedModule", _orig_mod=parallel)

    assert without_wrappers(compiled) == (model, "_orig_mod.module.")


def test_wrapper_of_another_package_and_ring_of_wrappers_stay() -> None:
    other = module("nets.DataParallel", module=module())
    ring = module("torch.nn.parallel.DataParallel")
    ring.state["_modules"] = {"module": ring}

    assert without_wrappers(other) == (other, "")
    assert without_wrappers(ring) == (ring, "module.")
