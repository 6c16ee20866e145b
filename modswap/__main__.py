"""Entry point: `modswap` and `python -m modswap`."""

import gc
import sys

from modswap.cli.supervisor import supervise


def main() -> None:
    """Run the command, in a child process where there are any, and end with its exit code."""
    supervise(sys.argv[1:])
    from modswap.cli.app import run  # the parent needs none of it

    # a model of a thousand modules is many objects and no garbage: looking less often saves seconds
    gc.set_threshold(20_000, 10, 10)
    code = run(sys.argv[1:])
    gc.disable()  # the interpreter's end looks for garbage by itself, and once is enough
    sys.exit(code)


if __name__ == "__main__":
    main()
