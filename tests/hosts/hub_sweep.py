"""Try folders of every architecture of transformers: built small, saved there, loaded here.

`python -m tests.hosts.hub_sweep FILE` writes the table that `test_hub_sweep` compares with.
"""

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

import modswap
from modswap.core.errors import ModswapError

MAX_ELEMENTS = 12_000_000  # of a model that is built
SMALL: dict[str, Any] = {
    "vocab_size": 99, "hidden_size": 32, "d_model": 32, "n_embd": 32, "dim": 32, "embed_dim": 32,
    "num_hidden_layers": 2, "n_layer": 2, "n_layers": 2, "num_layers": 2, "encoder_layers": 2,
    "decoder_layers": 2, "num_attention_heads": 2, "n_head": 2, "n_heads": 2, "num_heads": 2,
    "encoder_attention_heads": 2, "decoder_attention_heads": 2, "num_key_value_heads": 2,
    "intermediate_size": 64, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "d_ff": 64, "d_kv": 16,
    "ffn_dim": 64, "n_inner": 64, "hidden_dim": 64, "head_dim": 16, "image_size": 64,
    "patch_size": 16, "num_local_experts": 4, "num_experts": 4, "n_routed_experts": 4,
    "num_experts_per_tok": 2, "moe_intermediate_size": 32, "max_position_embeddings": 64,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "embedding_size": 32,
    "word_embed_proj_dim": 32, "shared_expert_intermediate_size": 32, "num_decoder_layers": 2,
}  # fmt: skip


class Row(NamedTuple):
    """What became of an architecture."""

    model: str
    verdict: str  # loads, refused, not built
    why: str
    seconds: float

    def line(self) -> str:
        return f"{self.model:<44} {self.verdict:<9} {self.seconds:5.1f}  {self.why}".rstrip()


def architectures() -> Iterator[tuple[str, str]]:
    """Yield the type and the class name of every model that the library's tables list, once."""
    from transformers.models.auto import modeling_auto

    seen: set[str] = set()
    for kind, names in modeling_auto.MODEL_MAPPING_NAMES.items():
        for name in (names,) if isinstance(names, str) else names:
            if name not in seen:
                seen.add(name)
                yield kind, name


def tried(kind: str, name: str, folder: Path) -> Row:
    """Return what becomes of a small model of an architecture."""
    started = time.monotonic()
    verdict, why = _tried(kind, name, folder)
    return Row(name, verdict, " ".join(why.split())[:150], time.monotonic() - started)


def _tried(kind: str, name: str, folder: Path) -> tuple[str, str]:
    try:
        model = built(kind, name)
    except Exception as error:  # noqa: BLE001 - of the library, about a size
        return "not built", f"no small configuration: {type(error).__name__}: {error}"
    if model is None:
        return "not built", f"no small configuration: over {MAX_ELEMENTS:,} elements"
    try:
        model.save_pretrained(folder)
        again = type(model).from_pretrained(folder)
    except Exception as error:  # noqa: BLE001 - of the library, on its own folder
        return "not built", f"the library does not load its own folder: {error}"
    try:
        loaded = modswap.load(folder)
    except ModswapError as error:
        return "refused", str(error).replace(str(folder), "FOLDER")
    mine, own = loaded.state_dict(), again.state_dict()
    other = [n for n in own if n not in mine or not _same(own[n], mine[n])]
    return ("differs", f"{len(other)}: {other[0]}") if other else ("loads", "")


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a.to(b.dtype).nan_to_num(), b.nan_to_num())


def built(kind: str, name: str) -> Any:
    """Return a small model with random weights; None if it cannot be made small."""
    import transformers

    cls = getattr(transformers, name)
    config = transformers.AutoConfig.for_model(kind)
    if not isinstance(config, cls.config_class):
        config = cls.config_class()
    plain = config.to_dict()
    changed = {key: value for key, value in SMALL.items() if type(plain.get(key)) is type(value)}
    for try_ in (changed, {k: v for k, v in changed.items() if k in _FEW}, {}):
        try:
            small = cls.config_class(**try_)
            with torch.device("meta"):
                if sum(p.numel() for p in cls(small).parameters()) > MAX_ELEMENTS:
                    continue
            torch.manual_seed(0)
            return cls(small).eval()
        except Exception as error:  # noqa: BLE001 - of the library, about sizes that do not go together
            last = error
            continue
    if "last" in locals():
        raise last
    return None


_FEW = ("vocab_size", "num_hidden_layers", "n_layer", "num_layers", "max_position_embeddings")


def main(file: Path) -> None:
    """Write the table of all architectures."""
    import transformers

    transformers.logging.set_verbosity_error()
    head = f"transformers {transformers.__version__}, torch {torch.__version__}"
    rows = []
    all_ = list(architectures())
    for kind, name in all_:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(tried(kind, name, Path(folder)))
        counts = {
            one: sum(row.verdict == one for row in rows)
            for one in sorted({r.verdict for r in rows})
        }
        lines = [
            head,
            f"{len(rows)} of {len(all_)} architectures: {counts}",
            *(row.line() for row in rows),
        ]
        file.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    from tests.hosts import conftest as hosts  # noqa: F401 - declares what the library imports

    main(Path(sys.argv[1]))
