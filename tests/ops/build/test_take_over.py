"""Device, mode and attributes of an old module on a new one."""

from typing import Any

import torch
from torch import nn

from modswap.core.seen.site import Site
from modswap.ops.build.take_over import (
    carry_over,
    carry_over_from,
    host_attributes,
    take_over,
    unknown_attributes,
)

CONV = "torch.nn.modules.conv.Conv2d"


class Block(nn.Module):
    """A module that sets attributes in three ways."""

    kind = "block"

    def __init__(self) -> None:
        super().__init__()
        self.width = 3
        setattr(self, "by_name", 4)  # noqa: B010 - the way under test


def test_attributes_that_the_class_sets_are_no_hosts() -> None:
    block = Block()
    vars(block).update(i=7, kind="other", note=torch.ones(1))

    assert host_attributes(block) == {"i": 7}


def test_attributes_of_torchs_layers_in_a_file_are_known() -> None:
    attributes = {"kernel_size": (1, 1), "padding": 0, "i": 4}

    assert unknown_attributes(nn.ReLU(), CONV, attributes) == {"i": 4}


def test_attributes_that_the_new_module_sets_are_left_out() -> None:
    assert unknown_attributes(Block(), "gone.Net", {"width": 9, "i": 4}) == {"i": 4}


def test_class_that_is_not_torchs_is_never_looked_up() -> None:
    assert unknown_attributes(nn.ReLU(), f"{__name__}.Block", {"width": 9}) == {"width": 9}
    assert unknown_attributes(nn.ReLU(), "torch.nn.nowhere.Gone", {"a": 1}) == {"a": 1}


def test_attribute_that_is_there_is_not_overwritten() -> None:
    block = Block()

    carry_over(block, {"width": 9, "i": 4})

    assert (block.width, vars(block)["i"]) == (3, 4)


def test_encoder_layers_find_what_they_read_of_their_attention() -> None:
    own = nn.MultiheadAttention(4, 2)
    plain: Any = Block()
    for module in (plain, own):
        carry_over_from(nn.MultiheadAttention(4, 2, batch_first=True), module)

    assert (plain.batch_first, plain.in_proj_bias) == (True, None)
    assert own.in_proj_bias is own.get_parameter("in_proj_bias")
    assert not own.batch_first


def test_new_module_has_dtype_mode_and_freeze_of_its_site() -> None:
    module = nn.Conv2d(2, 2, 1)
    site = Site("a", CONV, dtype="float16", training=False, trainable=False, channels_last=True)

    notes = take_over(module, site, {"i": 4})

    assert module.weight.dtype is torch.float16
    assert not module.training
    assert not module.weight.requires_grad
    assert notes == (
        "frozen, as the old module's parameters were",
        "carried over attributes that the host set: i",
    )
