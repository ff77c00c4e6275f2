"""The command line: ``pockettts-fast`` and ``python -m pockettts_fast``.

Sound and tables go to standard output, everything else to standard error. Exit codes: 0 done, 1 failed,
2 wrong usage, 130 after Ctrl-C, 141 when the reader of the output went away, 143 after SIGTERM.
"""

from collections.abc import Sequence
from typing import NoReturn

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command (``sys.argv`` by default) and exit with its code, never with a traceback."""
    # The handlers come first and everything else is imported behind them: an interrupt can come at any time.
    from pockettts_fast.cli.signals import stop_on_signals

    try:
        with stop_on_signals():
            from pockettts_fast.cli.app import run

            code = run(arguments)
    except BaseException as err:
        from pockettts_fast.cli.errors import report

        code = report(err)
    from pockettts_fast.cli.errors import finish

    finish(code)
