"""Who a machine is, for the nodes below Identification.

In flow the bridge's settings, what the plugin's settings say (`Printer.identity`, under the same names), and what
the printer and its OctoPrint report; the first that knows is believed. Out flows an `Identification` that is
complete: umati's clients demand each of these nodes with a value, so what nobody knows gets a neutral one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from urllib.parse import urlsplit

from bridge.machine import Printer
from bridge.settings import IdentificationSettings

UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Identification:
    """The nameplate. The year of construction and the first day of operation are None when nobody knows them; all
    else is always said."""

    component_name: str
    manufacturer: str
    model: str
    product_code: str
    serial_number: str
    product_instance_uri: str
    software_revision: str
    year_of_construction: int | None
    initial_operation_date: date | None
    location: str
    asset_id: str


def identify(
    machine_id: str,
    custom_name: str | None,
    url: str,
    settings: IdentificationSettings,
    printer: Printer | None,
) -> Identification:
    """The nameplate of the machine with this id, name and OctoPrint address."""
    told: Mapping[str, str] = printer.identity if printer is not None else {}

    def said(name: str) -> str | None:
        return getattr(settings, name) or told.get(name) or None

    model = said("model") or _first(printer, "model", "profile_name") or UNKNOWN
    return Identification(
        component_name=custom_name or _first(printer, "name") or machine_id,
        manufacturer=said("manufacturer") or UNKNOWN,
        model=model,
        product_code=said("product_code") or model,
        serial_number=said("serial_number") or _first(printer, "uuid") or machine_id,
        product_instance_uri=said("product_instance_uri") or f"urn:{_domain(url)}:octoprint:{machine_id}",
        software_revision=_software(printer),
        year_of_construction=settings.year_of_construction or _year(told.get("year_of_construction")),
        initial_operation_date=settings.initial_operation_date,
        location=said("location") or UNKNOWN,
        asset_id=said("asset_id") or "",
    )


def _first(printer: Printer | None, *names: str) -> str | None:
    return next((value for name in names if (value := getattr(printer, name, None))), None)


def _software(printer: Printer | None) -> str:
    if printer is None:
        return UNKNOWN
    return printer.firmware or f"OctoPrint {printer.octoprint_version}"


def _domain(url: str) -> str:
    """The host of an address, as it may stand in a URN: an IPv6 address has colons of its own."""
    return (urlsplit(url).hostname or "localhost").replace(":", "-").replace("%", "-")


def _year(text: str | None) -> int | None:
    """A year as a person typed it; the node is a UInt16."""
    if text is None or not text.strip().isdecimal():
        return None
    year = int(text)
    return year if 0 < year <= 0xFFFF else None
