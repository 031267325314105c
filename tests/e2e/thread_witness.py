"""A plugin for OctoPrint that writes down, after a print, on which threads MESBridge's code ran.

It does itself what a plugin must not do that wants to cost the printer nothing, and writes down on which threads
that was: so a test knows that the serial threads were looked at.
"""

import json
import threading
from pathlib import Path

import octoprint.plugin
from octoprint.printer import PrinterCallback

__plugin_name__ = "Thread witness"
__plugin_pythoncompat__ = ">=3.9,<4"

SERIAL = set()
MESBRIDGE = set()


def profile(frame, event, argument):
    if event == "call" and "octoprint_mesbridge" in frame.f_code.co_filename:
        MESBRIDGE.add(threading.current_thread().name)


def on_serial_thread(*args, **kwargs):
    SERIAL.add(threading.current_thread().name)


def received(comm, line, *args, **kwargs):
    on_serial_thread()
    return line


class Callback(PrinterCallback):
    on_printer_add_log = on_serial_thread
    on_printer_add_message = on_serial_thread
    on_printer_add_temperature = on_serial_thread


class ThreadWitness(octoprint.plugin.StartupPlugin, octoprint.plugin.EventHandlerPlugin):
    def on_startup(self, host, port):
        self._printer.register_callback(Callback())

    def on_event(self, event, payload):
        if event != "PrintDone":
            return
        told = {
            "serial": sorted(SERIAL),
            "mesbridge": sorted(MESBRIDGE),
            "hooks": sorted(self._plugin_manager.get_plugin_info("mesbridge").hooks),
            "callbacks": [type(one).__module__ for one in self._printer._callbacks],
        }
        path = Path(__file__).with_suffix(".json")
        path.with_suffix(".part").write_text(json.dumps(told))
        path.with_suffix(".part").replace(path)


threading.setprofile(profile)  # of every thread that begins after this
__plugin_implementation__ = ThreadWitness()
__plugin_hooks__ = {
    "octoprint.comm.protocol.gcode.received": received,
    "octoprint.comm.protocol.gcode.sending": on_serial_thread,
}
