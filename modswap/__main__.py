"""Entry point: `modswap` and `python -m modswap`."""

import gc
import sys

from modswap.cli.app import run


def main() -> None:
    """Run the command and end with its exit code."""
    # a model of a thousand modules is many objects and no garbage: looking less often saves seconds
    gc.set_threshold(20_000, 10, 10)
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
