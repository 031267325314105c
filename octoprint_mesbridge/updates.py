"""Where OctoPrint's Software Update finds releases: in the repository that the installed distribution names.

In flows the distribution's metadata; out flows the check for the hook
``octoprint.plugin.softwareupdate.check_config``. A repository that is only guessed would let whoever owns
it install code on every printer, so without one in the metadata nothing is checked.
"""

from __future__ import annotations

import importlib.metadata
import re
from email.message import Message
from typing import Any

DISTRIBUTION = "OctoPrint-MESBridge"
PLUGIN = "mesbridge"
"""Software Update wants a check under the plugin's identifier."""

_REPOSITORY = re.compile(r"https://github\.com/([A-Za-z0-9][\w-]*)/([\w.-]+?)(?:\.git)?/?", re.ASCII)


def check_config(*args: Any, **kwargs: Any) -> dict[str, dict[str, str]]:
    """The hook: one check, or none when the distribution names no repository."""
    try:
        return checks(importlib.metadata.metadata(DISTRIBUTION))
    except importlib.metadata.PackageNotFoundError:
        return {}


def checks(metadata: Message) -> dict[str, dict[str, str]]:
    """The check for releases of the ``Project-URL`` called Repository; a release's tag is its version."""
    named = (url.partition(",") for url in metadata.get_all("Project-URL") or [])
    urls = {label.strip().lower(): url.strip() for label, _, url in named}
    repository = _REPOSITORY.fullmatch(urls.get("repository", ""))
    if repository is None:
        return {}
    user, name = repository.groups()
    version = metadata["Version"]
    return {
        PLUGIN: {
            "displayName": "MESBridge",
            "displayVersion": version,
            "type": "github_release",
            "user": user,
            "repo": name,
            "current": version,
            "pip": f"https://github.com/{user}/{name}/archive/{{target_version}}.zip",
        }
    }
