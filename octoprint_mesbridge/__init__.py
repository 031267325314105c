"""MESBridge's half inside OctoPrint: metadata and hooks; `plugin` says how the parts are wired."""

__plugin_name__ = "MESBridge"
__plugin_pythoncompat__ = ">=3.9,<4"
# Relative to OctoPrint's page, so that it can be read without the internet and behind a proxy's prefix.
__plugin_privacypolicy__ = "plugin/mesbridge/static/privacy.html"


def __plugin_load__() -> None:
    # Not at import: the modules that know nothing of OctoPrint are usable, and tested, without it.
    global __plugin_implementation__, __plugin_hooks__

    from .plugin import MESBridgePlugin
    from .updates import check_config

    plugin = MESBridgePlugin()
    __plugin_implementation__ = plugin
    __plugin_hooks__ = {
        "octoprint.accesscontrol.keyvalidator": plugin.validate_key,
        "octoprint.server.api.before_request": plugin.guard_requests,
        "octoprint.server.api.after_request": plugin.guard_answers,
        "octoprint.server.http.access_validator": plugin.guard_download,
        "octoprint.access.permissions": plugin.additional_permissions,
        "octoprint.plugin.backup.additional_excludes": plugin.backup_excludes,
        "octoprint.plugin.health_check.get_additional_checks": plugin.health_checks,
        "octoprint.plugin.softwareupdate.check_config": check_config,
    }
