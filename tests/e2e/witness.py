"""A plugin for OctoPrint that writes each job event down at once, so that a test knows what a crash may not cost."""

import json
import os
import time
from pathlib import Path

import octoprint.plugin

__plugin_name__ = "Witness"
__plugin_pythoncompat__ = ">=3.9,<4"

JOB_EVENTS = {
    "PrintStarted": "job_started",
    "PrintPaused": "job_paused",
    "PrintResumed": "job_resumed",
    "PrintDone": "job_ended",
    "PrintCancelled": "job_ended",
}


class Witness(octoprint.plugin.EventHandlerPlugin):
    def on_event(self, event, payload):
        if event in JOB_EVENTS:
            line = json.dumps([os.getpid(), time.time(), JOB_EVENTS[event]]) + "\n"
            with Path(__file__).with_name("witness.jsonl").open("a") as file:
                file.write(line)


__plugin_implementation__ = Witness()
