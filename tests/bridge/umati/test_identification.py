from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from bridge.machine import Printer
from bridge.settings import IdentificationSettings
from bridge.umati.identification import Identification, identify

PRINTER = Printer(
    uuid="0b9c",
    name="Left printer",
    octoprint_version="1.11.8",
    plugin_version="0.1.0",
    firmware="Marlin 2.1",
    profile_name="Default",
    model="MK4",
    extruders=1,
    heated_bed=True,
    heated_chamber=False,
    identity={"manufacturer": "Prusa Research", "year_of_construction": "2023"},
)


def nameplate(
    printer: Printer | None = PRINTER, name: str | None = "FDM 7", **settings: Any
) -> Identification:
    return identify(
        "octoprint-1", name, "http://pi.plant:5000/x", IdentificationSettings(**settings), printer
    )


def test_the_settings_go_before_the_plugin_and_the_plugin_before_the_printer() -> None:
    assert nameplate(manufacturer="Bambu").manufacturer == "Bambu"
    assert nameplate().manufacturer == "Prusa Research"
    assert nameplate().model == "MK4"
    assert nameplate(model="MK3").model == "MK3"
    assert nameplate().serial_number == "0b9c"
    assert nameplate(year_of_construction=2020).year_of_construction == 2020
    assert nameplate().year_of_construction == 2023


def test_a_machine_never_heard_of_has_a_complete_nameplate() -> None:
    plate = nameplate(printer=None, name=None)
    assert plate.component_name == plate.serial_number == "octoprint-1"
    texts = {f.name: getattr(plate, f.name) for f in dataclasses.fields(plate)}
    assert texts.pop("year_of_construction") is None
    assert texts.pop("initial_operation_date") is None
    assert texts.pop("asset_id") == ""
    assert all(isinstance(text, str) and text for text in texts.values())


def test_the_name_is_the_configured_one_or_else_the_printers() -> None:
    assert nameplate().component_name == "FDM 7"
    assert nameplate(name=None).component_name == "Left printer"


@pytest.mark.parametrize(
    ("url", "uri"),
    [
        ("http://pi.plant:5000", "urn:pi.plant:octoprint:octoprint-1"),
        ("https://[fe80::1%25eth0]/x", "urn:fe80--1-25eth0:octoprint:octoprint-1"),
    ],
)
def test_the_default_product_instance_uri_is_a_urn_of_the_machines_host(url: str, uri: str) -> None:
    assert identify("octoprint-1", None, url, IdentificationSettings(), None).product_instance_uri == uri


@pytest.mark.parametrize("typed", ["", "soon", "0", "70000", "-5"])
def test_a_year_that_is_none_is_not_shown(typed: str) -> None:
    printer = dataclasses.replace(PRINTER, identity={"year_of_construction": typed})
    assert nameplate(printer).year_of_construction is None


def test_the_software_is_the_firmware_or_else_octoprint() -> None:
    assert nameplate().software_revision == "Marlin 2.1"
    assert nameplate(dataclasses.replace(PRINTER, firmware=None)).software_revision == "OctoPrint 1.11.8"
