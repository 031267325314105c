"""`make bench`: what bridge and plugin cost. ``--quick`` prints once instead of three times, on one OctoPrint only.

The figures of a shared computer are ratios, not absolutes; each is the median of several runs. Give some of the names
below to measure only those.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping

from benchmarks import bridge, delivery, latency, mes, metrics, plugin, pull, retention, space, web

BENCHMARKS: Mapping[str, Callable[[], None]] = {
    "bridge": bridge.run,
    "space": space.run,
    "delivery": delivery.run,
    "latency": latency.run,
    "mes": mes.run,
    "pull": pull.run,
    "web": web.run,
    "metrics": metrics.run,
    "retention": retention.run,
    "plugin": lambda: plugin.run(quick="--quick" in sys.argv[1:]),
}
wanted = [name for name in BENCHMARKS if name in sys.argv[1:]] or list(BENCHMARKS)
for name in wanted:
    BENCHMARKS[name]()
