"""What a command says on standard error while it works: notes, warnings, a line of progress."""

import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterator

from pockettts_fast.cli.errors import one_line, say

_REDRAW_S = 0.1
_LOGGER = "pockettts_fast"
_QUIET_DOWNLOADS = {"HF_HUB_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
"""What huggingface_hub reads when it is imported, which happens at the first download."""


class Messages(logging.Handler):
    """Writes notes and the package's log as plain lines, each different one once; with ``quiet`` nothing.

    The progress line appears on a terminal only.
    """

    def __init__(self, quiet: bool) -> None:
        super().__init__()
        self._quiet = quiet
        self._said: set[str] = set()
        self._shows_progress = not quiet and sys.stderr is not None and sys.stderr.isatty()
        self._drawn = 0
        self._drawn_at = -1.0

    @contextlib.contextmanager
    def collecting_log(self, level: int = logging.INFO) -> Iterator[None]:
        """Within, what the package logs from ``level`` on is said here."""
        logger = logging.getLogger(_LOGGER)
        before = logger.level, logger.propagate
        logger.setLevel(logging.ERROR if self._quiet else level)
        logger.propagate = False
        logger.addHandler(self)
        added = [name for name in _QUIET_DOWNLOADS if self._quiet and name not in os.environ]
        os.environ.update({name: _QUIET_DOWNLOADS[name] for name in added})
        try:
            yield
        finally:
            for name in added:
                os.environ.pop(name, None)
            self.clear_progress()
            logger.removeHandler(self)
            logger.setLevel(before[0])
            logger.propagate = before[1]

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except (TypeError, ValueError):
            text = str(record.msg)
        prefix = {logging.WARNING: "Warning: ", logging.ERROR: "Error: "}.get(record.levelno, "")
        self._line(text, prefix)

    def note(self, text: str) -> None:
        """A line, unless quiet."""
        if not self._quiet:
            self._line(text)

    def progress(self, text: str) -> None:
        """Show ``text`` in place of the last progress, not more often than a person can read."""
        now = time.monotonic()
        if not self._shows_progress or now - self._drawn_at < _REDRAW_S:
            return
        self._drawn_at = now
        self._draw(text)

    def clear_progress(self) -> None:
        """Remove the progress line."""
        if self._drawn:
            self._draw("")

    def _line(self, text: str, prefix: str = "") -> None:
        if text not in self._said:
            self._said.add(text)
            self.clear_progress()
            say(prefix + one_line(text))

    def _draw(self, text: str) -> None:
        # Spaces instead of an erase code, which not every terminal knows.
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write("\r" + text.ljust(self._drawn) + ("" if text else "\r"))
            sys.stderr.flush()
        self._drawn = len(text)
