"""What the running bridge adds to pairing: where a machine is shown, and whose key an acceptance replaces."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from bridge import wire
from bridge.adoption import Adoption
from bridge.aggregator import Secret
from bridge.control import Refused
from bridge.settings import IdentificationSettings, MesSettings, Settings
from bridge.site import Served
from bridge.sources.pairing import Accepted, AdoptionError, Request

KEY = "k" * 43
SERVED = Served(
    "octoprint-1",
    0,
    None,
    "http://octopi.local/",
    Secret(KEY),
    wire.PushKey.derive(KEY),
    (2, 3),
    IdentificationSettings(),
)


class OneMachine(list[Served]):
    """A site with `SERVED`, which is the OctoPrint "u-1"."""

    def printer_uuid(self, machine: str) -> str | None:
        return "u-1"


def adoption(*mes: int) -> Adoption:
    known = tuple(MesSettings(one, "http://mes.example", "s", token_env="T") for one in mes)
    return Adoption(Path("config.json"), Settings(mes=known), Path("state"), cast(Any, OneMachine([SERVED])))


def request(url: str, uuid: str = "u-1") -> Request:
    now = wire.utc_now()
    return Request("0a1b2c3d", "123-456", "X", url, uuid, "10.0.0.7", "1", "1", "waiting", now, now, "")


def test_an_octoprint_that_is_served_under_another_address_is_not_taken_in_a_second_time_unasked() -> None:
    with pytest.raises(Refused, match=r"octoprint-1, at .*--url http://octopi.local/.*--url http://10.0.0.7"):
        adoption(1).check_elsewhere(request("http://10.0.0.7"))


@pytest.mark.parametrize(
    ("url", "uuid"), [("http://OctoPi.local", "u-1"), ("http://10.0.0.7", "u-2"), ("", "u-1")]
)
def test_any_other_octoprint_and_the_same_one_at_its_address_are_taken_in(url: str, uuid: str) -> None:
    adoption(1).check_elsewhere(request(url, uuid))


def test_a_machine_that_is_served_stays_in_its_mes() -> None:
    assert adoption(1).mes_ids("http://OctoPi.local") == (2, 3)
    assert adoption(1).known("http://OctoPi.local") is SERVED


def test_a_new_machine_is_shown_in_the_only_mes_of_the_settings() -> None:
    assert adoption(4).mes_ids("http://other.local") == (4,)
    assert adoption(4).known("http://other.local") is None


@pytest.mark.parametrize(("mes", "there"), [((), "name none"), ((1, 2), "know 1, 2")])
def test_among_none_or_several_the_mes_is_to_be_named(mes: tuple[int, ...], there: str) -> None:
    with pytest.raises(Refused, match=f"{there}.*--mes N"):
        adoption(*mes).mes_ids("http://other.local")


async def test_without_a_place_to_remember_that_the_key_was_paired_nothing_is_written(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text("[]")
    there = Adoption(config, Settings(), tmp_path / "missing", cast(Any, []))
    accepted = Accepted("0a1b2c3d", "u-1", "Prusa", "http://octopi.local", (1,), Secret(KEY))
    with pytest.raises(AdoptionError, match="nothing was written: .*; then pair again"):
        await there.adopt(accepted)
    assert config.read_text() == "[]"
