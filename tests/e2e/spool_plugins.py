"""A plugin for OctoPrint that stands for SpoolManager or Spoolman, whichever it is installed as.

The command `select` does what the dialogue of that plugin does, in its order: SpoolManager fires its event before it
changes its settings, Spoolman after that.
"""

from pathlib import Path

import octoprint.plugin
from octoprint.events import Events

__plugin_name__ = Path(__file__).stem
__plugin_pythoncompat__ = ">=3.9,<4"


class SpoolPlugin(octoprint.plugin.SimpleApiPlugin, octoprint.plugin.SettingsPlugin):
    def is_api_protected(self):
        return True

    def get_settings_defaults(self):
        return {"selectedSpoolsDatabaseIds": [], "selectedSpoolIds": {}}

    def get_api_commands(self):
        return {"select": [], "weigh": []}

    def on_api_command(self, command, data):
        if self._identifier == "Spoolman":
            self._select_of_spoolman(data)
            return
        spool = {
            "toolId": data["tool"],
            "databaseId": data["spool"],
            "spoolName": "Galaxy Black",
            "material": "PETG",
            "colorName": "black",
            "remainingWeight": data["remaining"],
        }
        if command == "weigh":
            self._event_bus.fire("plugin_spoolmanager_spool_weight_updated_after_print", payload=spool)
            return
        self._event_bus.fire("plugin_spoolmanager_spool_selected", payload=spool)
        selected = [None] * data["tool"] + [data["spool"]]
        self._settings.set(["selectedSpoolsDatabaseIds"], selected)
        self._settings.save()

    def _select_of_spoolman(self, data):
        selected = self._settings.get(["selectedSpoolIds"])
        selected[data["tool"]] = {"spoolId": data["spool"]}
        self._settings.set(["selectedSpoolIds"], selected)
        self._settings.save()
        self._event_bus.fire(
            Events.PLUGIN_SPOOLMAN_SPOOL_SELECTED,
            payload={"toolIdx": data["tool"], "spoolId": data["spool"]},
        )


def custom_events(*args, **kwargs):
    return ["spool_selected"]


__plugin_implementation__ = SpoolPlugin()
__plugin_hooks__ = {"octoprint.events.register_custom_events": custom_events}
