"""The forms of a change of source for CI."""

import json
from dataclasses import replace

from modswap.core.kept.code_change import StandaloneFile, WrittenFile
from modswap.report.code.diff import unified
from modswap.report.code.forms import FORMS, file_json, lines_markdown
from tests.report.code.test_diff import change


def test_json_has_files_sites_and_proof() -> None:
    one = replace(change("net.py", "a\n", "b\n"), written="out.pt")

    told = json.loads(FORMS["json"](one, [WrittenFile("net.py", "net.py.orig")], "net.pt"))
    plain = json.loads(FORMS["json"](replace(one, written=""), (), "net.pt"))

    assert (told["schema"], told["command"], told["checkpoint"]) == (1, "code", "net.pt")
    (file,) = told["files"]
    assert file["diff"] == unified(one)
    assert (file["file"], file["written"], file["old_text"]) == ("net.py", True, "net.py.orig")
    assert told["sites"][1] == {
        "path": "b", "file": "net.py", "line": 1, "way": "line", "observed": ["channel=8"],
    }  # fmt: skip
    assert told["proof"] == {"builder": "net:Net()", "modules": 4, "relative_difference": 0.0}
    assert told["notes"] == ["an input was found"]
    assert told["output"] == {"file": "out.pt"}
    assert (plain["files"][0]["written"], plain["files"][0]["old_text"]) == (False, None)
    assert plain["output"] is None


def test_markdown_fences_a_diff_that_holds_fences() -> None:
    text = FORMS["markdown"](change("net.py", "a\n", "```\n::error::b\n"), (), "net.pt")

    assert text.startswith("````diff\n--- a/net.py\n")
    assert "\n+```\n" in text
    assert "\n````\n\n- `a  net.py:3  the call is replaced`\n" in text
    assert "- `OK  2 sites in 1 file" in text


def test_lines_for_a_library_have_both_forms() -> None:
    made = StandaloneFile("import timm\n", 0.5, ("a note",))

    told = json.loads(file_json(made, "out.pt"))

    assert told["text"] == "import timm\n"
    assert told["proof"] == {"relative_difference": 0.5}
    assert (told["file"], json.loads(file_json(made, "out.pt", "m.py"))["file"]) == (None, "m.py")
    said = lines_markdown(made, "OK  `it` holds")
    assert said == "```python\nimport timm\n```\n\n- `` OK  `it` holds ``\n"


def test_diff_is_the_diff_alone() -> None:
    one = change("net.py", "a\n", "b\n")

    assert FORMS["diff"](one, (), "net.pt") == unified(one)
