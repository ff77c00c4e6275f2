"""Ctrl-C, SIGTERM and SIGHUP end a command in order: what was begun is cleaned up, then the process exits."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
_SIGNALS_TO_FORCE = 3


class Stopped(BaseException):
    """The command was told to stop. Not an Exception, so that nothing on the way takes it for a failure."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


@contextlib.contextmanager
def stop_on_signals() -> Iterator[None]:
    """Within, the first signal raises :class:`Stopped` with the exit code 128 + its number.

    The second one does not disturb the cleanup, and the third one ends the process at once. Signals that the
    parent process has set to be ignored (``nohup``, background jobs) stay ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received = 0

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal received
        received += 1
        if received == 1:
            raise Stopped(128 + number)
        if received >= _SIGNALS_TO_FORCE:
            os._exit(128 + number)

    previous = {}
    for number in (getattr(signal, name) for name in _NAMES if hasattr(signal, name)):
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            previous[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        # After a signal the process is about to exit, and a further one must not end that in a traceback.
        if received == 0:
            for number, handler in previous.items():
                signal.signal(number, handler)
