"""The differences between two checkpoints as JSON."""

import math
from dataclasses import asdict
from typing import Any

from modswap.core.kept.difference import ClassChange, DiffResult, Lone, Side, Spread, TensorPair
from modswap.core.version import __version__
from modswap.report.page import SCHEMA, as_json


def diff_json(found: DiffResult) -> str:
    """Return a difference as one JSON object, with every tensor that differs."""
    data = {
        "schema": SCHEMA,
        "modswap": __version__,
        "command": "diff",
        "a": _side_as_data(found.a),
        "b": _side_as_data(found.b),
        "only": None if found.part == "all" else found.part,
        "equal": found.equal,
        "headline": found.headline or None,
        "counts": dict(found.counts),
        "compared": {"tensors": len(found.pairs), "entries": found.compared_entries},
        "modules": {
            "removed": [_lone_as_data(one) for one in found.gone],
            "added": [_lone_as_data(one) for one in found.come],
            "changed": [_class_as_data(one) for one in found.classes],
        },
        "tensors": {
            "removed": [_lone_as_data(one) for one in found.removed],
            "added": [_lone_as_data(one) for one in found.added],
            "moved": [{"from": p.a, "to": p.b, "by": p.how} for p in found.moved],
            "changed": [_pair_as_data(pair) for pair in found.changed],
        },
        "entries": [
            {"name": one.name, "kind": one.kind, "a": one.old, "b": one.new}
            for one in found.entries
        ],
        "notes": list(found.notes),
        "seconds": round(found.seconds, 3),
    }
    return as_json(data)


def _side_as_data(side: Side) -> dict[str, Any]:
    return {
        "file": side.file,
        "format": side.format,
        "tensors": side.tensors,
        "bytes": side.nbytes,
    }


def _lone_as_data(one: Lone) -> dict[str, str | None]:
    return {"name": one.name, "what": one.what, "kind": one.kind, "same": one.same or None}


def _class_as_data(one: ClassChange) -> dict[str, str]:
    return {"path": one.a, "to": one.b, "old": one.old, "new": one.new}


def _pair_as_data(pair: TensorPair) -> dict[str, Any]:
    return {
        "name": pair.a,
        "to": pair.b,
        "kind": pair.old.kind,
        "dtype": [pair.old.dtype, pair.new.dtype],
        "shape": [list(pair.old.shape), list(pair.new.shape)],
        "equal": pair.equal,
        "values": None if pair.spread is None else _spread_as_data(pair.spread),
    }


def _spread_as_data(spread: Spread) -> dict[str, Any]:
    infinite = math.isinf(spread.max_abs)  # JSON has no infinity
    return {
        **asdict(spread),
        "max_abs": "infinite" if infinite else spread.max_abs,
        "share": spread.share,
    }
