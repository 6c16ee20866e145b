"""A process in which Triton interprets its programs on the CPU, and answers questions.

The interpreter is chosen before triton is imported, so it needs a process of its own.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
NO_TRITON = "the interpreter needs triton and numpy: pip install triton numpy"


@contextmanager
def interpreter(module: str) -> Iterator[Callable[..., Any]]:
    """Give a function that asks a module's `answers` by name, in a process of its own."""
    pytest.importorskip("triton", reason=NO_TRITON)
    pytest.importorskip("numpy", reason=NO_TRITON)
    setting = {"TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    setting["MODSWAP_GPU_WAY"] = "auto"
    with subprocess.Popen(
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | setting,
        text=True,
        cwd=ROOT,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        source, sink = process.stdout, process.stdin

        def ask(name: str, **case: Any) -> Any:
            sink.write(json.dumps([name, case]) + "\n")
            sink.flush()
            return json.loads(source.readline() or '"the interpreter stopped, see stderr"')

        yield ask
        sink.close()


def answer(answers: Mapping[str, Callable[..., Any]]) -> None:
    """Answer the questions on standard input, a line for each."""
    for line in sys.stdin:
        name, case = json.loads(line)
        sys.stdout.write(json.dumps(answers[name](**case)) + "\n")
        sys.stdout.flush()
