"""A plugin for OctoPrint that tells layers as DisplayLayerProgress does, in its events and with its texts.

It is installed under that plugin's id. As with a file of Cura, layers are counted from 0.
"""

import threading
import time

import octoprint.plugin
from octoprint.events import eventManager

__plugin_name__ = "DisplayLayerProgress"
__plugin_pythoncompat__ = ">=3.9,<4"

LAYERS = 30


class LayerPlugin(octoprint.plugin.EventHandlerPlugin):
    def on_event(self, event, payload):
        if event == "PrintStarted":
            threading.Thread(target=self._print, name="layers", daemon=True).start()

    def _print(self):
        for layer in range(LAYERS):
            self._tell("heightChanged", layer)
            self._tell("layerChanged", layer)
            time.sleep(0.05)

    def _tell(self, reason, layer):
        payload = {
            "updateReason": reason,
            "totalLayer": str(LAYERS - 1),
            "currentLayer": str(layer),
            "lastLayerDuration": "-",
            "currentHeight": f"{layer * 0.2:.2f}",
            "totalHeight": "5.8",
            "feedrate": "-",
            "fanspeed": "-",
            "progress": "0",
            "printerState": "printing",
            "currentFilename": "part.gcode",
        }
        eventManager().fire("DisplayLayerProgress_" + reason, payload)


__plugin_implementation__ = LayerPlugin()
