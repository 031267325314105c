"""What people and monitors see of the bridge with a browser: in flow reads of the other parts, out flow pages and JSON.

It only reads. Loopback unless the settings open it wider.
"""

from bridge.web.front import Front
from bridge.web.health import Health
from bridge.web.metrics import Parts
from bridge.web.page import StatusPage

__all__ = ["Front", "Health", "Parts", "StatusPage"]
