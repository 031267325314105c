"""The machines that are served: each entry of config.json that can be, in every part of the bridge at once.

In flow entries, at start and while the bridge runs; out flow calls of the parts. Everything here runs on the event
loop and without a pause, so that no record of the log comes between the parts: what the machine was when it was
added, and every transition after that, is what each of them is shown.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import structlog

from bridge import identity, wire
from bridge.aggregator import Config, Secret
from bridge.fleet import Fleet
from bridge.machine import Machine, Transition
from bridge.mes import MesSink, Registration
from bridge.settings import FeedstockSettings, IdentificationSettings, Settings
from bridge.sources.presence import Presence
from bridge.sources.pull import PullSource
from bridge.sources.push import PushReceiver, Sender
from bridge.sources.verification import Candidate, Verification
from bridge.umati import MachineIdentity, UmatiServer
from bridge.umati.identification import Identification, identify

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Served:
    """An entry of config.json that is served, as the machine it is."""

    machine: str
    index: int
    name: str | None
    url: str
    key: Secret
    push_key: wire.PushKey
    mes_ids: tuple[int, ...]
    identification: IdentificationSettings
    port: int | None = None
    """The OPC UA port of its own (`umati_server_port`)."""
    paired: bool = False
    """Whether this key came by pairing, and not by hand."""
    feedstock: tuple[FeedstockSettings, ...] = ()

    @property
    def candidate(self) -> Candidate:
        return Candidate(self.machine, self.url, self.key, self.paired)

    @property
    def shown_as(self) -> MachineIdentity:
        return MachineIdentity(self.name, self.url, self.identification, self.feedstock)


def assign(config: Config, settings: Settings, folder: Path) -> list[Served]:
    """The entries that can be served, each with its machine id; ids are kept in `folder`.

    Raises `IdentityError`.
    """
    usable = [
        (entry, entry.url, entry.credential.key, wire.PushKey.derive(entry.credential.key.reveal()))
        for entry in config.machines
        if entry.served and entry.url is not None and entry.credential.key is not None
    ]
    path = folder / "machines.json"
    if (folder / "log.sqlite").exists() and not path.exists():
        log.warning(
            "the list of known machines is gone: each entry is the machine whose first url it has now. If one moved,"
            " stop the bridge and bring the file back from a backup",
            file=str(path),
        )
    before = identity.load(path)
    machines, known = identity.assign([(url, push_key.key_id) for _, url, _, push_key in usable], before)
    if known != before or not path.exists():
        identity.save(path, known)
    paired = identity.paired(folder)
    return [
        Served(
            machine,
            entry.index,
            entry.custom_name,
            url,
            key,
            push_key,
            entry.mes_id,
            settings.identification_of(url),
            entry.umati_server_port,
            push_key.key_id in paired,
            settings.feedstock_of(url),
        )
        for machine, (entry, url, key, push_key) in zip(machines, usable, strict=True)
    ]


@dataclass(slots=True)
class Applied:
    """What became of the machines: those that were added, removed, changed (with what of them), and those that could
    not be, which are named in the log."""

    added: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    changed: dict[str, list[str]] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed or self.failed)


_MEANT = {
    "name": "custom_name",
    "url": "url",
    "push_key": "key",
    "mes_ids": "mes_id",
    "port": "umati_server_port",
    "identification": "identification",
    "feedstock": "feedstock",
    "paired": "paired",
}


def differences(before: Served, now: Served) -> list[str]:
    """What of a machine is another, in the words of the files; where its entry stands is none of it."""
    return [name for key, name in _MEANT.items() if getattr(before, key) != getattr(now, key)]


class Site:
    """Brings machines into every part; as a sink it registers them again when the printer is another one."""

    def __init__(
        self,
        fleet: Fleet,
        umati: UmatiServer,
        mes: MesSink,
        presence: Presence,
        receiver: PushReceiver,
        verification: Verification,
        pull: PullSource,
    ) -> None:
        self._fleet = fleet
        self._umati = umati
        self._mes = mes
        self._presence = presence
        self._receiver = receiver
        self._verification = verification
        self._pull = pull
        self._served: dict[str, Served] = {}

    def __iter__(self) -> Iterator[Served]:
        return iter(self._served.values())

    def __len__(self) -> int:
        return len(self._served)

    def __contains__(self, machine: str) -> bool:
        return machine in self._served

    def names(self) -> dict[str, str]:
        """What people call the machines that are served, by machine id."""
        return {one.machine: self._nameplate(one).component_name for one in self}

    def name(self, machine: str) -> str | None:
        """What people call the machine; None when it is not served."""
        one = self._served.get(machine)
        return self._nameplate(one).component_name if one else None

    def printer_uuid(self, machine: str) -> str | None:
        """What its OctoPrint calls itself for ever; None before it was heard."""
        printer = self._fleet[machine].printer
        return printer.uuid if printer else None

    def serve(self, one: Served, told: Machine | None = None) -> None:
        """Serve a machine, or go on with one as its entry says now; whatever is the same is left alone.

        Its MES is told of the machine as it is now, or first as it was when it was `told` of.
        """
        one = self._as_possible(one)
        machine, before = self._fleet[one.machine], self._served.get(one.machine)
        if before is None or before.port != one.port:
            if before is not None:
                self._umati.remove_machine(one.machine)
                self._umati.give_port(one.machine, one.port)
            elif one.port is not None:
                self._umati.give_port(one.machine, one.port)
            self._umati.add_machine(one.machine, one.shown_as, machine)
        elif before.shown_as != one.shown_as:
            self._umati.change_machine(one.machine, one.shown_as)
        self._served[one.machine] = one
        self._register(one, told or machine)
        if before is None:
            self._presence.add(one.machine)
            if machine.printer is not None and machine.printer.uuid is not None:
                self._name_twins(one, self._twins(one, machine.printer.uuid))
        if before is None or before.push_key != one.push_key:
            self._receiver.believe(Sender(one.machine, one.push_key))
        if before is None or before.candidate != one.candidate:
            self._pull.forget(one.machine)  # until it is verified anew
            self._verification.ask(one.candidate)

    def _as_possible(self, one: Served) -> Served:
        """On the common port when its own is not open; once it is, that is a change like any other."""
        return one if one.port in self._umati.own_ports else replace(one, port=None)

    def remove(self, machine: str) -> None:
        """Serve a machine no longer: it is gone from OPC UA, its MES hear that it is Offline and then nothing, and its
        pushes are refused. What the log knows of it stays, should it come back."""
        one = self._served.pop(machine)
        self._receiver.forget(machine)
        self._presence.forget(machine)
        self._verification.forget(machine)
        self._pull.forget(machine)
        self._mes.withdraw(machine)
        self._umati.remove_machine(machine)
        if one.port is not None:
            self._umati.give_port(machine, None)

    def apply(self, entries: Sequence[Served]) -> Applied:
        """Serve exactly these machines from now on. Only what is another is touched, and one that cannot be served as
        its entry says keeps none of the others from it."""
        applied = Applied()
        now = {one.machine: self._as_possible(one) for one in entries}
        for machine in [one for one in self._served if one not in now]:
            with self._alone(machine, applied):
                self.remove(machine)
                applied.removed.append(machine)
        for machine, one in now.items():
            before = self._served.get(machine)
            changed = [] if before is None else differences(before, one)
            if before is not None and not changed:
                self._served[machine] = one
                continue
            with self._alone(machine, applied):
                self.serve(one)
                if before is None:
                    applied.added.append(machine)
                else:
                    applied.changed[machine] = changed
        return applied

    @contextlib.contextmanager
    def _alone(self, machine: str, applied: Applied) -> Iterator[None]:
        try:
            yield
        except Exception:  # the others are to be served all the same
            applied.failed.append(machine)
            log.exception(
                "this machine is not served as config.json has it now, for a reason that nobody foresaw: restart the"
                " bridge, and report it with the log",
                machine=machine,
            )

    def registrations(self) -> list[tuple[str, tuple[int, ...], Registration, Machine]]:
        """All machines, as their MES are to know them."""
        return [self._registered(one, self._fleet[one.machine]) for one in self]

    def handle(self, transition: Transition) -> None:
        """Let the MES know of a printer that has turned out to be another."""
        one = self._served.get(transition.record.machine)
        before, now = transition.before.printer, transition.after.printer
        if one is None or now is None or before == now:
            return
        self._register(one, transition.after)
        if now.uuid is None or (before is not None and before.uuid == now.uuid):
            return
        twins = self._twins(one, now.uuid)
        self._name_twins(one, twins)
        if before is not None and before.uuid is not None:
            log.warning(
                "this machine has another OctoPrint than before: it was installed anew, or another one has its url or"
                " key. It goes on as the same machine. If it is to be a new one, give it a url and a key that were"
                " never in config.json, wait until that is in force, and then correct the url",
                machine=one.machine,
                entry=one.index,
                url=one.url,
            )
        elif not any(machine in self for machine in twins):
            for machine in twins:
                log.warning(
                    "this OctoPrint was another machine before: both its url and its key are new, so it is a new"
                    " machine for MES and OPC UA. To keep the old one, put the old url or key back, wait until that"
                    " is in force, and then change the other",
                    machine=one.machine,
                    entry=one.index,
                    was=machine,
                )

    def _twins(self, one: Served, uuid: str) -> list[str]:
        """The other machines, served or not, that have had the OctoPrint with this `uuid`."""
        return [
            machine
            for machine, known in self._fleet.machines.items()
            if machine != one.machine and known.printer is not None and known.printer.uuid == uuid
        ]

    def _name_twins(self, one: Served, twins: Iterable[str]) -> None:
        """Say which other entries have this OctoPrint; they are left as they are: a copied SD card has the same
        `uuid`, and only a person knows."""
        for other in (self._served[machine] for machine in twins if machine in self):
            log.error(
                "two entries of config.json seem to be one OctoPrint (or one is a copy of the other): if they are,"
                " leave one of them, with the numbers of both in its mes_id",
                machine=one.machine,
                entry=one.index,
                url=one.url,
                other=other.machine,
                other_entry=other.index,
                other_url=other.url,
            )

    def _nameplate(self, one: Served, machine: Machine | None = None) -> Identification:
        printer = (machine or self._fleet[one.machine]).printer
        return identify(one.machine, one.name, one.url, one.identification, printer)

    def _register(self, one: Served, machine: Machine) -> None:
        self._mes.register(*self._registered(one, machine))

    def _registered(
        self, one: Served, machine: Machine
    ) -> tuple[str, tuple[int, ...], Registration, Machine]:
        nameplate = self._nameplate(one, machine)
        registration = Registration(
            name=nameplate.component_name,
            url=one.url,
            opcua_endpoint=self._umati.endpoint_url_of(one.machine),
            opcua_node_id=self._umati.node_id(one.machine),
            identification={k: v for k, v in asdict(nameplate).items() if v not in (None, "")},
        )
        return one.machine, one.mes_ids, registration, machine
