"""config.json changes, the bridge starts again, and each MES shows what a person expects: the same machine, or not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge import wire
from bridge.sandbox import Sandbox
from tests.bridge.events import DATA, PRINTER
from tests.bridge.mes.chain import machines_of, running_sandbox, wait_until
from tests.e2e.bridge_process import BridgeProcess, Plugin

pytestmark = pytest.mark.e2e

KEY, NEW_KEY, OTHER_KEY = "k" * 43, "n" * 43, "o" * 43
URL, NEW_URL, OTHER_URL = "http://127.0.0.1:1", "http://127.0.0.1:2", "http://127.0.0.1:3"


def entry(url: str = URL, key: str = KEY, mes: tuple[int, ...] = (1,), **more: Any) -> dict[str, Any]:
    return {"type": "OCTOPRINT", "url": url, "authentication_file_path": key, "mes_id": list(mes), **more}


def snapshot(**printer: Any) -> tuple[str, dict[str, Any]]:
    return wire.SNAPSHOT, {**DATA[wire.SNAPSHOT], "printer": {**PRINTER, **printer}}


class Plant:
    """A bridge with two MES, and what those show."""

    def __init__(self, folder: Path, one: Sandbox, two: Sandbox) -> None:
        self.mes = {1: one, 2: two}
        sections = [
            f'[[mes]]\nid = {number}\nurl = "{mes.mes_url}"\nservice_id = "sandbox"\n'
            f"token_file = '{mes.token_file}'\nheartbeat = 1\nlease = 30\n"
            for number, mes in self.mes.items()
        ]
        folder.mkdir()
        self.bridge = BridgeProcess(folder, [], "".join(sections))

    def run(self, *entries: dict[str, Any]) -> None:
        """Start the bridge with these entries; one that runs is stopped before."""
        if self.bridge.process is not None:
            assert self.bridge.stop() == 0
            self.bridge.output.unlink()
        (self.bridge.folder / "config.json").write_text(json.dumps(entries))
        self.bridge.start()

    def shows(self, number: int, **wanted: Any) -> dict[str, Any]:
        """The machine that this MES shows like that, once it does."""

        def found() -> dict[str, Any] | None:
            fitting = [one for one in self.machines(number) if wanted.items() <= one.items()]
            return fitting[0] if fitting else None

        machine: dict[str, Any] = wait_until(found)
        return machine

    def machines(self, number: int) -> list[dict[str, Any]]:
        return machines_of(self.mes[number])


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    with running_sandbox(tmp_path / "one") as one, running_sandbox(tmp_path / "two") as two:
        plant = Plant(tmp_path / "bridge", one, two)
        yield plant
        if plant.bridge.process is not None:
            plant.bridge.kill()


def test_a_machine_keeps_its_id_and_its_jobs_whatever_changes_one_at_a_time(plant: Plant) -> None:
    plant.run(entry(), entry(OTHER_URL, OTHER_KEY))
    plugin = Plugin(plant.bridge.push_url, KEY)
    plugin.push(snapshot(), (wire.JOB_STARTED, dict(DATA[wire.JOB_STARTED])))
    first = plant.shows(1, name="Left printer", status="Running", url=URL)  # the name that OctoPrint has

    plant.run(entry(OTHER_URL, OTHER_KEY), entry(custom_name="Bay 12"))  # another order, and a name
    assert plant.shows(1, name="Bay 12")["id"] == first["id"]
    plant.run(entry(NEW_URL, custom_name="Bay 12"))  # another address; the other machine is taken out
    assert plant.shows(1, url=NEW_URL)["id"] == first["id"]
    plant.run(entry(NEW_URL, NEW_KEY))  # another key, and no name any more
    again = plant.shows(1, name="Left printer", status="Running", url=NEW_URL)
    assert again["id"] == first["id"]
    assert [job["id"] for job in again["jobs"]] == ["run-1"]
    assert len(plant.machines(1)) == 2

    plugin.key = wire.PushKey.derive(NEW_KEY)
    plugin.push((wire.JOB_ENDED, dict(DATA[wire.JOB_ENDED])), snapshot(name="Renamed in OctoPrint"))
    ended = plant.shows(1, name="Renamed in OctoPrint", status="Idle")
    assert ended["id"] == first["id"]
    assert [job["state"] for job in ended["jobs"]] == ["completed"]
    assert plant.machines(2) == []


def test_a_machine_that_moves_to_another_mes_is_offline_in_the_one_and_goes_on_in_the_other(
    plant: Plant,
) -> None:
    plant.run(entry(mes=(1,)))
    plugin = Plugin(plant.bridge.push_url, KEY)
    plugin.push(snapshot(), (wire.JOB_STARTED, dict(DATA[wire.JOB_STARTED])))
    first = plant.shows(1, status="Running")
    plant.run(entry(mes=(2,)))
    assert plant.shows(2, status="Running")["id"] == first["id"]
    left = plant.shows(1, status="Offline")
    assert [job["state"] for job in left["jobs"]] == ["running"]  # nobody there sees its end
    plugin.push(
        (wire.JOB_ENDED, dict(DATA[wire.JOB_ENDED])), (wire.STATE, {"state": "operational", "error": None})
    )
    moved = plant.shows(2, status="Idle")
    assert [(job["id"], job["state"]) for job in moved["jobs"]] == [("run-1", "completed")]
    assert plant.shows(1, status="Offline")["events"] == left["events"]


def test_a_mes_that_is_away_while_a_machine_moves_is_told_of_it_once_it_is_back(plant: Plant) -> None:
    plant.run(entry(mes=(1,)))
    plugin = Plugin(plant.bridge.push_url, KEY)
    plugin.push(snapshot(), (wire.JOB_STARTED, dict(DATA[wire.JOB_STARTED])))
    plant.shows(1, status="Running")
    token = plant.mes[1].token_file.read_text()
    plant.mes[1].token_file.write_text("not-the-one")
    plant.run(entry(mes=(2,)))
    plant.shows(2, status="Running")
    assert "not-the-one" not in plant.bridge.text()
    plant.mes[1].token_file.write_text(token)
    plant.run(entry(mes=(2,)))
    assert [job["state"] for job in plant.shows(1, status="Offline")["jobs"]] == ["running"]
    plant.shows(2, status="Running")


def test_a_mes_whose_section_comes_back_shows_as_offline_what_left_it_meanwhile(plant: Plant) -> None:
    stays = entry(OTHER_URL, OTHER_KEY, mes=(2,))
    plant.run(entry(mes=(1, 2)), stays)
    Plugin(plant.bridge.push_url, KEY).push(snapshot(), (wire.JOB_STARTED, dict(DATA[wire.JOB_STARTED])))
    Plugin(plant.bridge.push_url, OTHER_KEY).push(snapshot(uuid="another"))
    plant.shows(2, url=URL, status="Running")
    plant.shows(2, url=OTHER_URL, status="Idle")
    settings = plant.bridge.folder / "settings.toml"
    both = settings.read_text()
    settings.write_text(both[: both.rindex("[[mes]]")])
    plant.run(entry(mes=(1,)), stays)
    plant.shows(2, url=OTHER_URL, status="Offline")
    settings.write_text(both)
    plant.run(entry(mes=(1,)), stays)
    plant.shows(2, url=OTHER_URL, status="Idle")  # so its lease runs again
    plant.shows(2, url=URL, status="Offline")
    plant.shows(1, url=URL, status="Running")


def test_a_machine_at_two_mes_is_told_to_both_and_one_that_is_away_delays_nobody(plant: Plant) -> None:
    plant.run(entry(mes=(1, 2)))
    plugin = Plugin(plant.bridge.push_url, KEY)
    plugin.push(snapshot())
    plant.shows(1, status="Idle")
    plant.shows(2, status="Idle")
    token = plant.mes[2].token_file.read_text()
    plant.mes[2].token_file.write_text("not-the-one")  # from the next start on nothing is taken there
    plant.run(entry(mes=(1, 2)))
    plugin.push(
        (wire.JOB_STARTED, dict(DATA[wire.JOB_STARTED])), (wire.STATE, {"state": "printing", "error": None})
    )
    assert [job["id"] for job in plant.shows(1, status="Running")["jobs"]] == ["run-1"]
    assert plant.machines(2)[0]["jobs"] == []
    plant.mes[2].token_file.write_text(token)
    plant.run(entry(mes=(2,)))  # taken out of the first alone
    plant.shows(1, status="Offline")
    assert [job["id"] for job in plant.shows(2, status="Running")["jobs"]] == ["run-1"]


def test_a_machine_that_is_taken_out_and_comes_back_is_the_same(plant: Plant) -> None:
    plant.run(entry(), entry(OTHER_URL, OTHER_KEY))
    Plugin(plant.bridge.push_url, KEY).push(snapshot())
    first = plant.shows(1, status="Idle", url=URL)
    plant.run(entry(OTHER_URL, OTHER_KEY))
    plant.shows(1, status="Offline", url=URL)
    plant.run(entry(), entry(OTHER_URL, OTHER_KEY))
    assert plant.shows(1, status="Idle", url=URL)["id"] == first["id"]
    assert len(plant.machines(1)) == 2


def test_two_octoprints_that_swap_their_addresses_stay_who_they_are(plant: Plant) -> None:
    plant.run(entry(custom_name="Left"), entry(OTHER_URL, OTHER_KEY, custom_name="Right"))
    before = {plant.shows(1, url=url)["id"]: name for url, name in ((URL, "Left"), (OTHER_URL, "Right"))}
    plant.run(entry(OTHER_URL, KEY, custom_name="Left"), entry(URL, OTHER_KEY, custom_name="Right"))
    after = {plant.shows(1, url=url)["id"]: name for url, name in ((OTHER_URL, "Left"), (URL, "Right"))}
    assert after == before


def test_url_and_key_changed_at_once_make_a_new_machine_and_the_old_one_is_offline(plant: Plant) -> None:
    plant.run(entry())
    Plugin(plant.bridge.push_url, KEY).push(snapshot())
    first = plant.shows(1, status="Idle", url=URL)
    plant.run(entry(NEW_URL, NEW_KEY))
    Plugin(plant.bridge.push_url, NEW_KEY).push(snapshot())
    assert plant.shows(1, status="Idle", url=NEW_URL)["id"] != first["id"]
    plant.shows(1, status="Offline", url=URL)
    said = plant.bridge.wait_for("this OctoPrint was another machine before")
    assert said["was"] == first["id"]


def test_another_octoprint_with_a_new_key_at_the_same_url_is_the_same_machine_and_that_is_said(
    plant: Plant,
) -> None:
    plant.run(entry())
    Plugin(plant.bridge.push_url, KEY).push(snapshot(), (wire.JOB_STARTED, dict(DATA[wire.JOB_STARTED])))
    first = plant.shows(1, status="Running", url=URL)
    plant.run(entry(key=NEW_KEY))
    Plugin(plant.bridge.push_url, NEW_KEY, "two").push(snapshot(uuid="another"))
    again = plant.shows(1, status="Idle", url=URL)
    assert (again["id"], [job["id"] for job in again["jobs"]]) == (first["id"], ["run-1"])
    assert plant.bridge.wait_for("this machine has another OctoPrint than before")["machine"] == first["id"]
    assert len(plant.machines(1)) == 1


def test_of_two_entries_with_one_key_only_the_first_is_served_and_the_other_is_named(plant: Plant) -> None:
    plant.run(entry(custom_name="By name"), entry(OTHER_URL, KEY, mes=(1, 2), custom_name="By address"))
    Plugin(plant.bridge.push_url, KEY).push(snapshot())
    plant.shows(1, name="By name", status="Idle")
    assert len(plant.machines(1)) == 1
    assert plant.machines(2) == []
    assert "this key is already used by the entry on line 1" in plant.bridge.text()
    assert KEY not in plant.bridge.text()


def test_two_entries_of_one_octoprint_are_named_at_each_start_and_no_print_is_told_twice(
    plant: Plant,
) -> None:
    both = entry(), entry(OTHER_URL, OTHER_KEY)
    plant.run(*both)
    Plugin(plant.bridge.push_url, OTHER_KEY).push(snapshot())
    plugin = Plugin(plant.bridge.push_url, KEY, "two")
    plugin.push(snapshot(), (wire.JOB_STARTED, dict(DATA[wire.JOB_STARTED])))
    plant.shows(1, url=URL, status="Running")
    plant.run(*both)
    said = plant.bridge.wait_for("two entries of config.json seem to be one OctoPrint")
    assert {said["url"], said["other_url"]} == {URL, OTHER_URL}
    plugin.push((wire.JOB_ENDED, dict(DATA[wire.JOB_ENDED])))
    wait_until(lambda: [job["state"] for job in plant.shows(1, url=URL)["jobs"]] == ["completed"])
    assert plant.shows(1, url=OTHER_URL)["jobs"] == []


def test_a_damaged_list_of_machines_stops_the_bridge_in_words(plant: Plant) -> None:
    plant.run(entry())
    assert plant.bridge.stop() == 0
    (plant.bridge.folder / "state" / "machines.json").write_text('{"machines": [')
    plant.bridge.start(wait=False)
    assert plant.bridge.process is not None
    assert plant.bridge.process.wait(30) != 0
    assert "machines.json: the list of known machines cannot be read" in plant.bridge.text()
    assert "bring it back from a backup, or delete it" in plant.bridge.text()


def test_without_the_list_of_machines_the_ids_are_the_first_ones_again(plant: Plant) -> None:
    plant.run(entry())
    first = plant.shows(1, url=URL)
    assert plant.bridge.stop() == 0
    (plant.bridge.folder / "state" / "machines.json").unlink()
    plant.run(entry(key=NEW_KEY))
    assert plant.shows(1, url=URL)["id"] == first["id"]
    assert len(plant.machines(1)) == 1
