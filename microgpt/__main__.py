"""The console script, and `python -m microgpt`: until `cli` listens, Ctrl-C and SIGTERM end it in a line.

Only in the hundredth of a second in which Python itself starts can Ctrl-C still show a traceback.
"""

import os

# `signal` itself imports others for some milliseconds, in which Ctrl-C would show a traceback.
from _signal import SIGINT, SIGTERM, signal  # type: ignore[import-not-found, unused-ignore]


def quit(number: int, _: object) -> None:
    """A handler for the time in which nothing is there that could be lost."""
    os.write(2, b"microgpt: interrupted\n")
    os._exit(128 + number)


def main() -> None:
    """The console script; `cli.main` has its exit codes."""
    for number in (SIGINT, SIGTERM):
        signal(number, quit)
    from microgpt.cli import main

    main()


if __name__ == "__main__":
    main()
