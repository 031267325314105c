"""What the bridge takes of the computer, by the names that Prometheus' own libraries give it. Where the system does not
tell something it is left out."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

from bridge.web import catalogue
from bridge.web.exposition import Metric, Sample

_SELF = Path("/proc/self")
_STARTED = time.time()  # this module is loaded while the bridge starts


def figures() -> Iterator[tuple[Metric, list[Sample]]]:
    """The process at this moment."""
    yield catalogue.CPU, [((), time.process_time())]
    yield catalogue.STARTED, [((), _STARTED)]
    if sys.platform == "win32":
        return
    import resource

    try:
        pages = int((_SELF / "statm").read_text(encoding="ascii").split()[1])
        yield catalogue.MEMORY, [((), pages * resource.getpagesize())]
        yield catalogue.FILES, [((), sum(1 for _ in (_SELF / "fd").iterdir()))]
    except OSError:  # no Linux
        pass
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit != resource.RLIM_INFINITY:
        yield catalogue.MOST_FILES, [((), limit)]
