"""A plugin for OctoPrint that watches MESBridge from inside: put into the base folder of a measured OctoPrint.

At each end of a print it writes ``probe.json``: the native ids of the threads by name, how long each call of
MESBridge's ``on_event`` took in µs, and from which threads those calls came.
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
        self.callers = set()

    def on_after_startup(self):
        watched = self._plugin_manager.get_plugin_info("mesbridge")
        if watched is None or not watched.enabled or watched.implementation is None:
            return
        on_event, took, callers = watched.implementation.on_event, self.events_us, self.callers

        def timed(event, payload):
            begin = time.perf_counter_ns()
            on_event(event, payload)
            took.append((time.perf_counter_ns() - begin) / 1e3)
            callers.add(threading.current_thread().name)

        watched.implementation.on_event = timed

    def on_event(self, event, payload):
        if event not in ("PrintDone", "PrintFailed", "PrintCancelled"):
            return
        told = {
            "threads": {thread.name: thread.native_id for thread in threading.enumerate()},
            "events_us": self.events_us,
            "callers": sorted(self.callers),
        }
        Path(__file__).with_name("probe.json").write_text(json.dumps(told))


__plugin_implementation__ = Probe()
