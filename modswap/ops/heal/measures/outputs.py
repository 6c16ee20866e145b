"""The tensors of a model's outputs that say what it computes."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from modswap.core.errors import ShapeError
from modswap.live_values import items_of, live_tensors, named_tensors_in
from modswap.ops.heal.samples import Batch

FIRST_NAMES = ("logits", "out")  # of outputs by name, those of transformers and torchvision
EMBEDDING_NAMES = ("sentence_embedding", "image_embeds", "text_embeds", "pooler_output")
HIDDEN = "last_hidden_state"
FEATURES = "feats"  # the maps in front of the head, among the outputs of a detector
USUAL_BINS = 4 * 16  # channels of the boxes in the raw maps of a detector


class Detections(NamedTuple):
    """The outputs of an Ultralytics detector.

    `decoded` is (N, 4 + classes + further, anchors), or (N, boxes, 6) where the model has dropped
    double boxes itself; `raw` has the tensors of the head before they are decoded.
    """

    decoded: torch.Tensor
    raw: dict[str, torch.Tensor]
    classes: int


def named_output(outputs: Any, name: str) -> torch.Tensor | None:
    """Return a floating tensor among outputs by its name, or None."""
    value = dict(items_of(outputs) or ()).get(name)
    return value if isinstance(value, torch.Tensor) and value.is_floating_point() else None


def principal(outputs: Any) -> torch.Tensor | None:
    """Return the tensor that a metric looks at: `logits`, `out`, or else the first floating one."""
    for name in FIRST_NAMES:
        if (found := named_output(outputs, name)) is not None:
            return found
    return next((each for each in live_tensors(outputs) if _is_compared(each)), None)


def required(outputs: Any) -> torch.Tensor:
    """Return the principal tensor of outputs.

    Raises:
        ShapeError: If they have no floating tensor.
    """
    found = principal(outputs)
    if found is None:
        raise ShapeError("it gives no floating tensor to compare", "the model's output")
    return found


def compared(outputs: Any, batch: Batch) -> dict[str, torch.Tensor]:
    """Return the floating tensors of outputs by their places, each with its channels at axis 1.

    Those of a detector are the raw head. (N, L, C) comes as (N · L, C), without the tokens that
    the batch's attention mask leaves out.
    """
    if (found := detections(outputs)) is not None:
        return found.raw
    named = {place: each for place, each in named_tensors_in(outputs) if _is_compared(each)}
    return {place: _by_channel(each, batch) for place, each in named.items()}


def mask_of(batch: Batch, tensor: torch.Tensor) -> torch.Tensor | None:
    """Return the attention mask (N, L) of a batch if it fits (N, L, …), on the tensor's device."""
    mask = batch.kwargs.get("attention_mask")
    if isinstance(mask, torch.Tensor) and mask.shape == tensor.shape[:2]:
        return mask.to(tensor.device).bool()
    return None


def detections(outputs: Any) -> Detections | None:
    """Return the parts of an Ultralytics detector's outputs, known by them alone; else None.

    They are a pair of the decoded predictions and the raw head: `boxes` and `scores` by name, or
    in earlier versions a map (N, 4 · bins + classes, H, W) for each stride.
    """
    if not (isinstance(outputs, (tuple, list)) and len(outputs) == 2):
        return None
    first, raw = outputs
    decoded = first[0] if isinstance(first, (tuple, list)) and first else first
    if not (isinstance(decoded, torch.Tensor) and decoded.ndim == 3):
        return None
    if isinstance(raw, Mapping):
        return _by_name(decoded, raw)
    return _by_maps(decoded, raw)


def _by_name(decoded: torch.Tensor, raw: Mapping[str, Any]) -> Detections | None:
    named = {
        place: each
        for place, each in named_tensors_in(raw)
        if FEATURES not in place.split(".") and _is_compared(each)
    }
    scores = [each for place, each in named.items() if place.split(".")[-1] == "scores"]
    boxes = any(place.split(".")[-1] == "boxes" for place in named)
    return Detections(decoded, named, scores[0].shape[1]) if scores and boxes else None


def _by_maps(decoded: torch.Tensor, raw: Any) -> Detections | None:
    if isinstance(raw, (tuple, list)) and raw and isinstance(raw[0], (tuple, list)):
        raw = raw[0]  # with mask coefficients or key points behind the maps
    maps = dict(enumerate(raw)) if isinstance(raw, (tuple, list)) else {}
    fit = all(isinstance(each, torch.Tensor) and each.ndim == 4 for each in maps.values())
    anchors = sum(each.shape[-2:].numel() for each in maps.values()) if fit else 0
    if not anchors or anchors != decoded.shape[-1]:
        return None
    classes, most = maps[0].shape[1] - USUAL_BINS, decoded.shape[1] - 4
    named = {f"map {number}": each for number, each in maps.items()}
    return Detections(decoded, named, classes if 0 < classes <= most else most)


def _is_compared(tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point() and tensor.ndim > 0


def _by_channel(tensor: torch.Tensor, batch: Batch) -> torch.Tensor:
    if tensor.ndim == 1:
        return tensor[:, None]
    if tensor.ndim == 3:
        mask = mask_of(batch, tensor)
        return tensor.flatten(0, 1) if mask is None else tensor[mask]
    return tensor
