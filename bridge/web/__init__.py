"""What people and monitors see of the bridge with a browser: in flow reads of the other parts, out flow pages and JSON.

It only reads. Loopback unless the settings open it wider.
"""

from bridge.web.guard import Guard
from bridge.web.page import StatusPage
from bridge.web.server import WebServer

__all__ = ["Guard", "StatusPage", "WebServer"]
