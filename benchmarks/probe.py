"""A plugin for OctoPrint that watches MESBridge from inside: put into the base folder of a measured OctoPrint.

At each end of a print it writes ``probe.json``: the native ids of the threads by name, how long calls of
MESBridge's ``on_event`` took in µs, how long calls of a function that does nothing took in the same place (at every
other event, since the first of two would warm the caches for the second), and from which threads those calls came.
"""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import octoprint.plugin

__plugin_name__ = "Probe"
__plugin_pythoncompat__ = ">=3.9,<4"


class Probe(octoprint.plugin.StartupPlugin, octoprint.plugin.EventHandlerPlugin):
    def __init__(self):
        self.events_us = []
        self.nothing_us = []
        self.callers = set()

    def on_after_startup(self):
        watched = self._plugin_manager.get_plugin_info("mesbridge")
        if watched is None or not watched.enabled or watched.implementation is None:
            return
        on_event = watched.implementation.on_event

        def nothing(event, payload):
            pass

        def timed(event, payload):
            measured = len(self.events_us) > len(self.nothing_us)
            called, took = (nothing, self.nothing_us) if measured else (on_event, self.events_us)
            begin = time.perf_counter_ns()
            called(event, payload)
            took.append((time.perf_counter_ns() - begin) / 1e3)
            if measured:
                on_event(event, payload)
            self.callers.add(threading.current_thread().name)

        watched.implementation.on_event = timed

    def on_event(self, event, payload):
        if event not in ("PrintDone", "PrintFailed", "PrintCancelled"):
            return
        told = {
            "threads": {thread.name: thread.native_id for thread in threading.enumerate()},
            "events_us": self.events_us,
            "nothing_us": self.nothing_us,
            "callers": sorted(self.callers),
        }
        Path(__file__).with_name("probe.json").write_text(json.dumps(told))


__plugin_implementation__ = Probe()
