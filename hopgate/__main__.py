"""`hopgate` and `python -m hopgate`."""

from __future__ import annotations

import sys


def main() -> None:
    from hopgate.cli.app import run

    sys.exit(run())


if __name__ == "__main__":
    main()
