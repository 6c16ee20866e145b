"""Everything in a payload that was read as data; whole files are in `tests/io/formats`."""

from modswap.io.pickled.contents import payload_contents
from modswap.io.pickled.data import Instance, Name


def test_objects_are_read_by_their_arguments_state_and_parts() -> None:
    name = Name("box", "Box")
    box = Instance("new", name, ([1],), (1, 2), [("a", 1)], [Instance("called", name, ())])
    ordered = Instance("called", Name("collections", "OrderedDict"), (), {"mark": 1})
    shared = Instance("called", name, (3,))

    found = payload_contents({"box": box, "ordered": ordered, "x": [shared, shared]}).entries

    assert {name: entry.text for name, entry in found.items()} == {
        "box": "box.Box(…)", "box:<arguments>.0": "[1]", "box:<state>": "(1, 2)",
        "box:<items>.0": "['a', 1]", "box:<elements>.0": "box.Box()", "ordered": "{}",
        "ordered:<state>.mark": "1", "x:0": "box.Box(3)", "x:1": "object x:0",
    }  # fmt: skip


def test_two_values_of_one_name_are_both_kept() -> None:
    found = payload_contents({0: 1, "0": 2}).entries

    assert {name: entry.text for name, entry in found.items()} == {"0": "1", "0#2": "2"}
