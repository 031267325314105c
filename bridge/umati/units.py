"""Units of measurement as OPC UA names them (OPC 10000-8, 5.6.4.3): codes of UNECE Recommendation 20 as numbers."""

from __future__ import annotations

from asyncua import ua

_NAMESPACE = "http://www.opcfoundation.org/UA/units/un/cefact"


def _unit(code: str, symbol: str, name: str) -> ua.EUInformation:
    number = int.from_bytes(code.encode("ascii"), "big")
    return ua.EUInformation(_NAMESPACE, number, ua.LocalizedText(symbol), ua.LocalizedText(name))


BYTE = _unit("AD", "byte", "byte")
CELSIUS = _unit("CEL", "°C", "degree Celsius")
CUBIC_CENTIMETRE = _unit("CMQ", "cm³", "cubic centimetre")
GRAM = _unit("GRM", "g", "gram")
MILLIMETRE = _unit("MMT", "mm", "millimetre")
PERCENT = _unit("P1", "%", "percent")
SECOND = _unit("SEC", "s", "second [unit of time]")
