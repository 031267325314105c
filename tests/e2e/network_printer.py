"""A plugin for OctoPrint 2.0: a connector to a printer that is reached over a network, and does not exist.

There is no serial line and no G-code: the printer reports its states itself and prints a file by letting time
pass. As commands, `!fault` makes it fail as a printer does whose controller gives up; `!begin` makes it print what
somebody began at the printer, of which connectors report a state and no event, and `!vanish` ends that just so.
"""

import threading
import time

import octoprint.plugin

__plugin_name__ = "Network printer"
__plugin_pythoncompat__ = ">=3.9,<4"

PRINT_S = 3.0


class NetworkPrinterPlugin(octoprint.plugin.OctoPrintPlugin):
    def initialize(self):
        from octoprint.printer import ErrorInformation, FirmwareInformation
        from octoprint.printer.connection import ConnectedPrinter, ConnectedPrinterState
        from octoprint.printer.job import JobProgress, PrintJob

        State = ConnectedPrinterState

        class NetworkPrinter(ConnectedPrinter):
            """Registers itself by being defined."""

            connector = "network_printer"
            name = "Network printer"

            def connect(self, *args, **kwargs):
                self._elapsed = 0.0
                self._in_background(self._connect)
                return True

            def _connect(self):
                self.state = State.CONNECTING
                time.sleep(0.2)
                self.firmware_info = FirmwareInformation(name="NetFirm 7", data={})
                self._measured(24.5)
                self.state = State.OPERATIONAL

            def disconnect(self, *args, **kwargs):
                self.state = State.CLOSED
                self._listener.on_printer_disconnect()

            def is_ready(self, *args, **kwargs):
                return self.state is State.OPERATIONAL

            def supports_job(self, job):
                return job.path.endswith(".gcode")

            @property
            def job_progress(self):
                if self.current_job is None:
                    return None
                return JobProgress(
                    job=self.current_job,
                    progress=min(self._elapsed / PRINT_S, 1.0),
                    pos=0,
                    elapsed=self._elapsed,
                    cleaned_elapsed=self._elapsed,
                )

            def commands(self, *commands, **kwargs):
                if "!fault" in commands:
                    self.error_info = ErrorInformation(error="The gantry is stuck", reason="fault")
                    self.state = State.ERROR
                    self.set_state(State.CLOSED_WITH_ERROR)
                    self._listener.on_printer_disconnect()

                elif "!begin" in commands:
                    job = PrintJob(storage="local", path="part.gcode", display="part.gcode")
                    self.set_job(job)
                    self._listener.on_printer_job_changed(job)
                    self._elapsed = 0.0
                    self.state = State.PRINTING
                    self._in_background(self._print)
                elif "!vanish" in commands:
                    self.state = State.OPERATIONAL

            def script(self, *args, **kwargs):
                pass

            def start_print(self, *args, **kwargs):
                self._elapsed = 0.0
                self.state = State.STARTING
                self._listener.on_printer_job_started()
                self.state = State.PRINTING
                self._in_background(self._print)

            def _print(self):
                while self._elapsed < PRINT_S:
                    time.sleep(0.05)
                    if self.state is State.PRINTING:
                        self._elapsed += 0.05
                        self._measured(200.0 + self._elapsed)
                        self._listener.on_printer_job_progress()
                    elif self.state is not State.PAUSED:
                        return
                self.state = State.FINISHING
                self._listener.on_printer_job_done()
                self.state = State.OPERATIONAL

            def pause_print(self, *args, **kwargs):
                self.state = State.PAUSING
                self._listener.on_printer_job_paused()
                self.state = State.PAUSED

            def resume_print(self, *args, **kwargs):
                self.state = State.RESUMING
                self._listener.on_printer_job_resumed()
                self.state = State.PRINTING

            def cancel_print(self, *args, **kwargs):
                self.state = State.CANCELLING
                self._listener.on_printer_job_cancelled()
                self.state = State.OPERATIONAL

            def _measured(self, actual):
                self._listener.on_printer_temperature_update({"tool0": (actual, 210.0)})

            def _in_background(self, work):
                threading.Thread(target=work, name="network_printer", daemon=True).start()


__plugin_implementation__ = NetworkPrinterPlugin()
