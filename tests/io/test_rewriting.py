"""Changes of a checkpoint, as plain data."""

from modswap.io.rewriting import Graft


def test_tensors_of_replaced_modules_begin_with_their_full_paths() -> None:
    graft = Graft(("model", "net"), "module.", (("gate", "other.gate"), ("head",)), b"")

    assert graft.prefixes == (
        *("model.net.module.gate.", "model.net.module.other.gate.", "model.net.module.head."),
    )
