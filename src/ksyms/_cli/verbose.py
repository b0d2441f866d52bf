"""The records of the logger ``ksyms`` as lines for people."""

from __future__ import annotations

import logging
from collections.abc import Callable

from .._log import LOGGER


class _LineHandler(logging.Handler):
    """A handler that calls ``say`` with each record's message."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__()
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        """Call ``say`` with the message of ``record``."""
        self._say(record.getMessage())


def log_to(say: Callable[[str], None]) -> None:
    """Call ``say`` with every decision that is logged from now on."""
    logger = logging.getLogger(LOGGER)
    logger.setLevel(logging.DEBUG)
    logger.addHandler(_LineHandler(say))
