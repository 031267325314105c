"""A MES that speaks MESBridge's own contract, ``docs/mes-api.yaml``."""

from __future__ import annotations

from datetime import datetime
from urllib.parse import quote

from bridge.mes.answers import json_of, judged
from bridge.mes.client import Answer, Kind, Message, Outcome, Request, SecretError, Verdict
from bridge.settings import MesSettings

_ACTIVATIONS = ("pending", "active", "refused")


class Contract:
    """See `Adapter`."""

    def __init__(self, settings: MesSettings, bridge_id: str) -> None:
        self._settings = settings
        service = quote(settings.service_id or "", safe="")
        self._service = settings.path.replace("{service_id}", service).strip("/")

    def request(self, message: Message, secret: str, now: datetime) -> Request:
        """See `Adapter.request`."""
        if len(secret.split()) > 1:
            raise SecretError("holds more than one word; put the API token there, alone")
        method = "PUT" if message.kind in (Kind.REGISTRATION, Kind.STATUS) else "POST"
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": message.key,
            self._settings.auth_header: f"{self._settings.auth_scheme} {secret}".lstrip(),
        }
        path = "/".join(part for part in (self._service, _place(message)) if part)
        return Request(method, path, headers, message.body.encode())

    def outcome(self, message: Message, answer: Answer) -> Outcome:
        """See `Adapter.outcome`."""
        outcome = judged(answer)
        if outcome.verdict is Verdict.UNKNOWN and message.kind is Kind.REGISTRATION:
            return Outcome(Verdict.FOREIGN, f"no such service: {outcome.reason}")
        if answer.code == 409 and message.kind is Kind.EVENT:
            # It was told before an older log was brought back, when an estimate was another one.
            return Outcome(Verdict.DONE, outcome.reason)
        if outcome.verdict is not Verdict.DONE:
            return outcome
        found = json_of(answer)
        if answer.content.strip() and found is None:
            return Outcome(
                Verdict.FOREIGN,
                f"HTTP {answer.code} with something other than JSON, as a proxy or login page does",
            )
        if message.kind is Kind.REGISTRATION and (found or {}).get("activation") not in _ACTIVATIONS:
            return Outcome(Verdict.FOREIGN, "the answer to a registration says nothing of activation")
        return Outcome(Verdict.DONE, answer=found)


def _place(message: Message) -> str:
    if message.machine is None:
        return message.kind.value
    machine = f"machines/{quote(message.machine, safe='')}"
    part = {Kind.STATUS: "/status", Kind.EVENT: "/events"}.get(message.kind, "")
    return machine + part
