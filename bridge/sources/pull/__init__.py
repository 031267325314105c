"""OctoPrints without the plugin, followed from outside with the key of their entry.

In flow messages of OctoPrint's push socket, or answers of its REST API where there is no socket; out flow the
events that its plugin would push, into the log. Where a plugin is heard, nothing is asked here.
"""

from bridge.sources.pull.session import Channel
from bridge.sources.pull.source import PullSource

__all__ = ["Channel", "PullSource"]
