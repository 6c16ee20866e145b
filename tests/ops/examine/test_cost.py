"""Costs of the model and of each site, before and after a swap."""

from pathlib import Path

from modswap.ops.examine.table import examination_names
from modswap.ops.jobs.replace import check_file
from tests.ops.measure.test_cost import findings, job, recipe

OTHERS = ", ".join(row for row in examination_names() if row != "cost")


def test_check_reports_the_cost_of_the_model_and_of_each_site(tmp_path: Path) -> None:
    outcome = check_file(job(tmp_path, recipe(more=f"verify: {{skip: [{OTHERS}]}}")))

    model, *sites = findings(outcome, "cost")
    assert [site.path for site in sites] == ["channel_attention", "space_attention"]
    assert {found.status for found in (model, *sites)} == {"passed"}
    assert model.data["before"]["params"] == outcome.params_before
    assert model.data["after"]["params"] == outcome.params_after
    before = sum(site.data["before"]["flops"] for site in sites)
    # stem and head are left
    assert model.data["before"]["flops"] - before == 2 * 14 * 14 * 16 * (27 + 2)
    assert model.what.startswith("FLOPs ")
