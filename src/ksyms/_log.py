"""The decisions of ksyms, told to the logger ``ksyms``: what was chosen or refused, and why.

To import logging takes as long as a lookup in a file. Where nothing has imported it, nobody
has asked for its records, so none is made.

Addresses are secrets: no record has one, nor a slide, from which they can be computed. Records
have names, paths, build-ids, counts and reasons.
"""

from __future__ import annotations

import sys

from ._typing import Final

LOGGER: Final = "ksyms"


def decided(message: str, *details: object) -> None:
    """Log a decision at level DEBUG: ``message % details``."""
    logging = sys.modules.get("logging")
    if logging is not None:
        logging.getLogger(LOGGER).debug(message, *details, stacklevel=2)
