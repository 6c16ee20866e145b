"""Entry point: `modswap` and `python -m modswap`."""

import sys

from modswap.cli.app import run


def main() -> None:
    """Run the command and end with its exit code."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
