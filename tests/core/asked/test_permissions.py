"""Which names a user may allow a checkpoint to build."""

from typing import Any

import pytest

from modswap.core.asked.permissions import (
    alias_flaw,
    first_flaw,
    package_prefixes,
    permission_flaw,
)

SOUND = ["mynets.*", "a.b.c.*", "mynets.nets.Net", "argparse.Namespace", "__main__.Net", "os_x.*"]
WRONG = {
    "*": "is no package.module.Class",
    "": "is no package.module.Class",
    ".*": "is no package.module.Class",
    "mynets.*.Net": "is no package.module.Class",
    "mynets.N*": "is no package.module.Class",
    "mynets.**": "is no package.module.Class",
    "my nets.*": "is no package.module.Class",
    "../mynets.*": "is no package.module.Class",
    "nets.py:Net": "is no package.module.Class",
    "torch.*": "parts of torch",
    "torch.nn.*": "parts of torch",
    "torch._C.*": "parts of torch",
    "builtins.*": "parts of Python",
    "os.*": "parts of Python",
    "os.path.*": "parts of Python",
    "sys.*": "parts of Python",
    "collections.*": "parts of Python",
    "_pickle.*": "parts of Python",
    "posix.*": "parts of Python",
    "pip.*": "parts of Python",
    "__main__.*": "the classes of any script",
    "mynets.__main__.*": "runs when it is imported",
    "mynets.__main__.Net": "runs when it is imported",
    "mynets.__init__.Net": "runs when it is imported",
}


@pytest.mark.parametrize("entry", SOUND)
def test_name_or_package_may_be_allowed(entry: str) -> None:
    assert permission_flaw(entry) is None


@pytest.mark.parametrize("entry", WRONG)
def test_entry_that_would_allow_too_much_is_refused(entry: str) -> None:
    flaw = permission_flaw(entry)

    assert flaw is not None
    assert WRONG[entry] in flaw[0]
    assert repr(entry) in flaw[0]
    assert flaw[1]


def test_long_entry_is_cut_in_the_message() -> None:
    flaw = permission_flaw("a" * 10_000 + "!")

    assert flaw is not None
    assert len(flaw[0]) < 160


def test_wrong_patterns_stand_for_no_package() -> None:
    assert package_prefixes([*SOUND, *WRONG]) == ("mynets.", "a.b.c.", "os_x.")


@pytest.mark.parametrize(
    ("old", "new"), [("__main__.Net", "a.py:Net"), ("__main__.*", "a.*"), ("a/b.Net", "a.Net")]
)
def test_alias_is_for_dotted_names(old: str, new: str) -> None:
    assert alias_flaw(old, new) is not None
    assert first_flaw([], [(old, new)]) == ("alias", *(alias_flaw(old, new) or ()))


def test_first_wrong_permission_is_named_with_its_option() -> None:
    assert first_flaw(SOUND, [("__main__.Net", "mynets.Net")]) is None
    assert first_flaw([*SOUND, "*"], []) == ("allow", *(permission_flaw("*") or ()))


@pytest.mark.parametrize(
    ("allow", "aliases", "what"),
    [
        ("nets.Net", (), "'nets.Net' is one text, not a list of names"),
        ((), ["__main__.Net=nets.Net"], "'__main__.Net=nets.Net' is no pair of names"),
        ((), {"__main__.Net": "nets.Net"}, "'__main__.Net' is no pair of names"),
        ((), [("a.B", 3)], "is no pair of names"),
    ],
)
def test_permissions_of_another_form_are_refused(allow: Any, aliases: Any, what: str) -> None:
    flaw = first_flaw(allow, aliases)

    assert flaw is not None
    assert what in flaw[1]
    assert flaw[2].startswith("write [")
