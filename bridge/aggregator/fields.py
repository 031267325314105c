"""The values of a machine entry other than its key: checked one by one.

In: the node of a value. Out: the value with its type, or None, and problems in the report. A message never quotes
a value: what stands in the wrong place may be a key, or a url with a password in it.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final
from urllib.parse import SplitResult, urlsplit, urlunsplit

from bridge.aggregator.jsonc import Array, Node, Object, Scalar
from bridge.aggregator.problem import Report

_HOST_NAME = re.compile(r"[\w-]+(?:\.[\w-]+)*\.?")
_DOTTED_NUMBERS = re.compile(r"[0-9.]+")
_API_PATH = re.compile(r"/api(?:/.*)?\Z")
_URL_EXAMPLE: Final = "write it like http://192.168.1.41:5000"


def kind_of(node: Node) -> str:
    """What a person calls the JSON type of this value."""
    if isinstance(node, Object):
        return "an object"
    if isinstance(node, Array):
        return "an array"
    value = node.value
    if isinstance(value, bool):
        return "true or false"
    if value is None:
        return "null"
    return "a text" if isinstance(value, str) else "a number"


def text_value(node: Node) -> str | None:
    return node.value if isinstance(node, Scalar) and isinstance(node.value, str) else None


def _int_value(node: Node) -> int | None:
    value = node.value if isinstance(node, Scalar) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def is_unset(node: Node) -> bool:
    """null and blank text mean the same as leaving the key out."""
    if isinstance(node, Scalar):
        return node.value is None or (isinstance(node.value, str) and not node.value.strip())
    return False


def read_url(node: Node, report: Report) -> str | None:
    """The base URL of an OctoPrint: http or https, a host, maybe a port and a path; nothing else.

    For a bad URL returns what of it may be shown, without user, password and query, or None.
    """
    given = text_value(node)
    if given is None:
        report.error(node.start, "url", f"the url must be a text, not {kind_of(node)}", _URL_EXAMPLE)
        return None
    url = given.strip()
    if url != given:
        report.warning(node.start, "url", "the url has blanks around it", "remove them")
    try:
        parts = urlsplit(url)
        problem = _url_problem(url, parts)
    except ValueError:  # urlsplit on broken brackets, and `port` on one that is no port
        parts, problem = None, ("the url has no valid host and port", _URL_EXAMPLE)
    if problem is not None:
        report.error(node.start, "url", *problem)
        return _showable_url(parts)
    if parts is not None and _API_PATH.search(parts.path):
        message = "the url points into OctoPrint's API; the base URL of OctoPrint is wanted"
        report.warning(node.start, "url", message, "remove /api and what follows")
    return url


def _url_problem(url: str, parts: SplitResult) -> tuple[str, str] | None:
    if "@" in url:
        hint = "remove user and password from it: OctoPrint is asked with the key alone"
        return "the url holds credentials (an @)", hint
    if parts.scheme not in ("http", "https") or not url[len(parts.scheme) :].startswith("://"):
        return "the url does not begin with http:// or https://", _URL_EXAMPLE
    if "?" in url or "#" in url:
        return "the url has a query or fragment (? or #)", "keep only what stands before it"
    if not url.isprintable() or " " in url or "\\" in url:
        return "the url contains a blank, a backslash or a control character", _URL_EXAMPLE
    host = parts.hostname
    if not host:
        return "the url names no host", _URL_EXAMPLE
    if parts.netloc.endswith(":") or parts.port == 0:
        return "the url has a colon after the host, but no valid port", _URL_EXAMPLE
    if not _is_host(host, bracketed="[" in parts.netloc):
        return "the host in the url is neither a name nor an IP address", _URL_EXAMPLE
    return None


def _is_host(host: str, *, bracketed: bool) -> bool:
    if not bracketed and not _DOTTED_NUMBERS.fullmatch(host):
        return _HOST_NAME.fullmatch(host) is not None
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return (address.version == 6) == bracketed


def _showable_url(parts: SplitResult | None) -> str | None:
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.path:
        return None
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def same_place(url: str) -> str:
    """A form in which two valid urls of one OctoPrint are equal: case, default port, slash at the end."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"{parts.scheme}://{parts.hostname}:{port}{parts.path.rstrip('/')}"


def read_custom_name(node: Node, report: Report) -> str | None:
    """The name to show; None when unset, it is then read from the machine."""
    if isinstance(node, Scalar) and node.value is None:
        return None
    name = text_value(node)
    hint = "write a name in quotes, or leave custom_name out to use the machine's own"
    if name is None:
        report.error(node.start, "custom_name", f"custom_name must be a text, not {kind_of(node)}", hint)
    elif not name.strip():
        report.warning(
            node.start, "custom_name", "custom_name is blank; the machine's own name is used", hint
        )
    elif not name.strip().isprintable():
        report.error(node.start, "custom_name", "custom_name contains a control or invisible character", hint)
    else:
        return name.strip()
    return None


def read_mes_id(node: Node, report: Report) -> tuple[int, ...]:
    """The MES instances, each once, in the order given; empty when there is an error."""
    hint = "write the numbers of the MES instances in square brackets, such as [1]"
    if not isinstance(node, Array):
        message = f"mes_id must be an array of whole numbers, not {kind_of(node)}"
        report.error(node.start, "mes_id", message, hint)
        return ()
    if not node.items:
        report.error(node.start, "mes_id", "mes_id is empty: this machine would be shown in no MES", hint)
        return ()
    instances: dict[int, None] = {}
    complete = True
    for item in node.items:
        instance = _int_value(item)
        if instance is None:
            what = "a number with a fraction" if kind_of(item) == "a number" else kind_of(item)
            report.error(item.start, "mes_id", f"mes_id must hold whole numbers, not {what}", hint)
            complete = False
        elif instance in instances:
            report.warning(
                item.start, "mes_id", f"MES instance {instance} is named twice", "remove one of them"
            )
        else:
            instances[instance] = None
    return tuple(instances) if complete else ()


def read_port(node: Node, report: Report) -> int | None:
    """The port of the machine's own umati server, 1 to 65535; None when unset."""
    if isinstance(node, Scalar) and node.value is None:
        return None
    port = _int_value(node)
    hint = "write a port number without quotes, such as 4841, or leave the key out"
    if port is None:
        message = f"umati_server_port must be a whole number, not {kind_of(node)}"
        if kind_of(node) == "a number":
            message = "umati_server_port must be a whole number, without a fraction"
        report.error(node.start, "umati_server_port", message, hint)
        return None
    if not 1 <= port <= 65535:
        report.error(node.start, "umati_server_port", "umati_server_port must be between 1 and 65535", hint)
        return None
    return port
