"""`make bench`: what bridge and plugin cost. ``--quick`` prints once instead of three times, on one OctoPrint only.

The figures of a shared computer are ratios, not absolutes; each is the median of several runs. Give ``bridge``,
``space``, ``delivery``, ``latency``, ``mes``, ``pull`` or ``plugin`` to measure only that.
``space``, ``delivery``, ``latency``, ``mes``, ``web`` or ``plugin`` to measure only that.
"""

from __future__ import annotations

import sys

from benchmarks import bridge, delivery, latency, mes, plugin, pull, space

ALL = ["bridge", "space", "delivery", "latency", "mes", "pull", "plugin"]
from benchmarks import bridge, delivery, latency, mes, plugin, space, web

ALL = ["bridge", "space", "delivery", "latency", "mes", "web", "plugin"]
wanted = [name for name in ALL if name in sys.argv[1:]] or ALL
if "bridge" in wanted:
    bridge.run()
if "space" in wanted:
    space.run()
if "delivery" in wanted:
    delivery.run()
if "latency" in wanted:
    latency.run()
if "mes" in wanted:
    mes.run()
if "pull" in wanted:
    pull.run()
if "web" in wanted:
    web.run()
if "plugin" in wanted:
    plugin.run(quick="--quick" in sys.argv[1:])
