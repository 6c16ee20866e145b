"""Read torch's messages on a model that it cannot trace: one line, with the module."""

import re
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import CodeType

from torch import nn

Warned = tuple[str, int, str]  # file, line, text
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
FRAME = re.compile(r'File "([^"]+)", line ([0-9]+), in forward')
MAX_MESSAGE_CHARACTERS = 200  # characters of a message


def reason(error: BaseException, model: nn.Module) -> str:
    """Return the message of an exception in one line, with its module and line of code."""
    cause = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    return _place(cause, model) + _said(cause)


def _said(error: BaseException) -> str:
    """Return the first line of a message; of TorchScript the last, which is the cause."""
    text = COLOURS.sub("", str(error)).strip()
    lines = [line.strip() for line in text.splitlines()] or [""]
    if len(lines) > 1 and "TorchScript interpreter" in lines[0]:
        return f"TorchScript: {lines[-1]}"[:MAX_MESSAGE_CHARACTERS]
    if lines[0].startswith("[ONNXRuntimeError]"):
        said = lines[0].rpartition("Status Message: ")[2].rpartition("was false. ")[2]
        return f"onnxruntime: {said}"[:MAX_MESSAGE_CHARACTERS]
    return f"{type(error).__name__}: {lines[0]}"[:MAX_MESSAGE_CHARACTERS].rstrip(": ")


def _place(error: BaseException, model: nn.Module) -> str:
    """Return the innermost module that was running, and the line."""
    paths = {id(module): path for path, module in model.named_modules()}
    found = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        path = paths.get(id(frame.f_locals.get("self")))
        if path is not None and frame.f_code.co_name == "forward":
            found = f"{_in_words(path, frame.f_code.co_filename, line)}: "
    for file, line in () if found else FRAME.findall(str(error)):
        path = _path_of(model, file, int(line))
        found = found if path is None else f"{_in_words(path, file, int(line))}: "
    return found


def heard(warned: Sequence[Warned], model: nn.Module) -> str:
    """Return the first of the warnings of a tracer, with its module."""
    if not warned:
        return ""
    file, line, text = warned[0]
    place = _in_words(_path_of(model, file, line) or "", file, line)
    return f" (the tracer warns: {place}: {text})"


def _path_of(model: nn.Module, file: str, line: int) -> str | None:
    """Return the path of the first module whose `forward` holds a line."""
    for path, module in model.named_modules():
        code = getattr(type(module).forward, "__code__", None)
        if not isinstance(code, CodeType) or code.co_filename != file:
            continue
        lines = [number for *_, number in code.co_lines() if number]
        if min(lines) <= line <= max(lines):
            return str(path)
    return None


def _in_words(path: str, file: str, line: int) -> str:
    place = f"{Path(file).name}:{line}"
    return f"{path!r} at {place}" if path else f"at {place}"
