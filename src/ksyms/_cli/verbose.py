"""The records of the logger ``ksyms`` as lines for people."""

from __future__ import annotations

import logging
from collections.abc import Callable

from .._log import LOGGER


class _LineHandler(logging.Handler):
    """A handler that hands each record's message to ``say``."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__()
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        """Say one message."""
        self._say(record.getMessage())


def log_to(say: Callable[[str], None]) -> None:
    """Have every decision said from now on."""
    logger = logging.getLogger(LOGGER)
    logger.setLevel(logging.DEBUG)
    logger.addHandler(_LineHandler(say))
