"""`make bench`: what bridge and plugin cost. ``--quick`` prints once instead of three times, on one OctoPrint only.

The figures of a shared computer are ratios, not absolutes; each is the median of several runs. Give ``bridge`` or
``plugin`` to measure only one of them.
"""

from __future__ import annotations

import sys

from benchmarks import bridge, plugin

wanted = [name for name in ("bridge", "plugin") if name in sys.argv[1:]] or ["bridge", "plugin"]
if "bridge" in wanted:
    bridge.run()
if "plugin" in wanted:
    plugin.run(quick="--quick" in sys.argv[1:])
