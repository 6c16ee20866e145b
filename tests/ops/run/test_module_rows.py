"""The modules of a model as rows."""

import torch
from torch import nn

from modswap.ops.run.module_rows import KnownFacts, is_floating, module_rows


def test_rows_name_classes_sizes_aliases_ties_and_own_parameters() -> None:
    shared = nn.Linear(4, 4, bias=False)
    model = nn.Sequential(shared, shared, nn.Linear(4, 4, bias=False))
    model[2].weight = shared.weight
    model.register_parameter("scale", nn.Parameter(torch.ones(3)))

    rows = {row.path: row for row in module_rows(model, KnownFacts(flops={shared: 7}))}

    assert list(rows) == ["", "0", "1", "2"]
    assert rows["0"].class_name == "torch.nn.modules.linear.Linear"
    assert (rows["0"].params, rows["0"].nbytes, rows["0"].dtype) == (16, 64, "float32")
    assert rows[""].params == 19
    assert rows["1"].alias_of == "0"
    assert rows["2"].ties == (("weight", "0.weight"),)
    assert [(own.name, own.params) for own in rows[""].bare] == [("scale", 3)]
    assert rows["0"].flops == 7


def test_complex_tensors_count_as_floating_and_whole_numbers_do_not() -> None:
    assert is_floating(torch.zeros(1, dtype=torch.complex64))
    assert not is_floating(torch.zeros(1, dtype=torch.int64))
