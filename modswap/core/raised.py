"""Say whose code raised an exception: the model's own, or modswap."""

import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from modswap.core.errors import CheckpointError
from modswap.core.words.printable import SHOWN_CHARACTERS

_OURS = str(Path(__file__).parents[1])
_PYTHON = sysconfig.get_path("stdlib")
_PACKAGES = ("site-packages", "dist-packages")
# packages that modswap and torch call for themselves: an exception in one is no word of the model
_LIBRARIES = frozenset({
    "annotated_types", "click", "filelock", "fsspec", "jinja2", "markdown_it", "mpmath",
    "networkx", "numpy", "pydantic", "pydantic_core", "pygments", "rich", "safetensors", "sympy",
    "torch", "typer", "typing_extensions", "typing_inspection", "yaml",
})  # fmt: skip
_MODULE = str(Path("torch", "nn", "modules"))
# methods of torch's modules that run a model's hooks and read its attributes
_METHODS = frozenset({
    "_apply", "_call_impl", "_named_members", "_wrapped_call_impl", "bfloat16", "double", "eval",
    "extra_repr", "float", "half", "load_state_dict", "named_buffers", "named_modules",
    "named_parameters", "requires_grad_", "state_dict", "to", "train", "zero_grad", "__repr__",
    "__setstate__",
})  # fmt: skip


def error_of_model(error: BaseException, where: str) -> CheckpointError | None:
    """Return the error for an exception that a model's own code raised; None if it is another's.

    It is the model's if, behind the last function of modswap, a function of a package of the user
    was running, or a method of torch's that runs hooks and reads attributes of modules.
    """
    frames = list(_frames(error.__traceback__))
    last = max((at for at, (file, _) in enumerate(frames) if _is_ours(file)), default=None)
    if last is None:
        return None
    behind = frames[last + 1 :]
    of_torch = bool(behind) and _MODULE in behind[0][0] and behind[0][1] in _METHODS
    if not of_torch and not any(_is_of_user(file) for file, _ in behind):
        return None
    text = " ".join(str(error).split())[:SHOWN_CHARACTERS]
    what = f"the model's own code raised {type(error).__name__}: {text}"
    return CheckpointError(what, where, "mend the model's code, or save the file again")


def _frames(traceback: TracebackType | None) -> Iterator[tuple[str, str]]:
    """Yield the file and the function of every frame, the innermost last."""
    while traceback is not None:
        code = traceback.tb_frame.f_code
        yield code.co_filename, code.co_name
        traceback = traceback.tb_next


def _is_ours(file: str) -> bool:
    return file.startswith(_OURS)


def _is_of_user(file: str) -> bool:
    parts = Path(file).parts
    found = next((parts.index(name) for name in _PACKAGES if name in parts), None)
    if found is not None:
        return parts[found + 1].removesuffix(".py") not in _LIBRARIES
    return not file.startswith(("<", _PYTHON))
