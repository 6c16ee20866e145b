"""ACmix as the paper has it, beside the form that runs."""

from typing import Any

import pytest
import torch

from modswap.nn import ACmix
from modswap.nn.paper_forms.acmix import acmix


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride": 2, "head": 8},
        {"kernel_att": 3, "dilation": 2},
        {"kernel_att": 1, "kernel_conv": 5},
    ],
)
def test_papers_form_computes_what_the_module_computes(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    layer = ACmix(16, 32, **options).eval()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x = torch.randn(2, 16, 9, 12)

    with torch.no_grad():
        expected, found = layer(x), acmix(layer, x)

    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_papers_form_takes_maps_of_one_pixel() -> None:
    layer = ACmix(16, 32, kernel_att=1).eval()
    x = torch.randn(1, 16, 1, 1)

    with torch.no_grad():
        torch.testing.assert_close(acmix(layer, x), layer(x), rtol=1e-5, atol=1e-6)
