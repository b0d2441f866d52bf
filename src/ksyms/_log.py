"""The log of ksyms' decisions: what was chosen or refused, and why; its logger is ``ksyms``.

The import of logging takes as long as a lookup in a file. If no code has imported it, nobody
has asked for records, so none is made.

Addresses are secrets: no record has one, nor a slide, from which they can be computed. Records
have names, paths, build-ids, counts and reasons.
"""

from __future__ import annotations

import sys

from ._typing import Final

LOGGER: Final = "ksyms"


def decided(message: str, *details: object) -> None:
    """Log the decision ``message % details`` at level DEBUG."""
    logging = sys.modules.get("logging")
    if logging is not None:
        logging.getLogger(LOGGER).debug(message, *details, stacklevel=2)
