"""The outputs in `docs/explain.md`."""

import pytest

from tests.ops.explain.explain_page import PAGE, explain_page, without_what_varies


@pytest.mark.ci
@pytest.mark.slow
def test_page_shows_what_the_commands_print(monkeypatch: pytest.MonkeyPatch) -> None:
    # on a busy machine the time for the names of axes may end before all have one
    monkeypatch.setattr("modswap.ops.explain.axes.TIMEOUT_SECONDS", 600.0)
    page = PAGE.read_text(encoding="utf-8")

    made = without_what_varies(explain_page())

    assert made == without_what_varies(page), "`make docs` writes it anew"


def test_what_processors_decide_is_left_out() -> None:
    texts = ("are 3e-07\nof their size apart", "are 0 of their size", "相差其数值大小的\n4e-07")

    assert [without_what_varies(text) for text in texts] == [
        "are …\nof their size apart",
        "are … of their size",
        "相差其数值大小的…",
    ]
