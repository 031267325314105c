"""A webhook that takes CloudEvents 1.0 in structured mode, signed as Standard Webhooks says: ``docs/mes-webhook.md``.

Sources: CloudEvents 1.0.2 and its HTTP protocol binding, section 3.2; Standard Webhooks 1.0.0.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from datetime import datetime
from typing import Any

from bridge.mes.answers import judged
from bridge.mes.client import Answer, Kind, Message, Outcome, Request, SecretError, Verdict
from bridge.settings import MesSettings

_TYPES = {
    Kind.REGISTRATION: "mesbridge.machine.registered.v1",
    Kind.STATUS: "mesbridge.machine.status.v1",
    Kind.HEARTBEAT: "mesbridge.bridge.heartbeat.v1",
    Kind.SIGN_OFF: "mesbridge.bridge.signed_off.v1",
}
_PREFIX = "whsec_"
_KEY_BYTES = range(24, 65)
_MOST_SECRETS = 2
_ADVICE = "put the webhook's secret there: whsec_ and 24 to 64 bytes in base64"


class CloudEvents:
    """See `Adapter`. All messages go to the url of the MES itself."""

    def __init__(self, settings: MesSettings, bridge_id: str) -> None:
        self._source = f"urn:mesbridge:{bridge_id}"

    def request(self, message: Message, secret: str, now: datetime) -> Request:
        """See `Adapter.request`; the secret may be two, of which the receiver knows one while it is replaced."""
        keys = [_key(word) for word in secret.split()]
        if len(keys) > _MOST_SECRETS:
            raise SecretError(f"holds more than {_MOST_SECRETS} secrets; take the oldest ones out")
        body = json.dumps(self._event(message), separators=(",", ":"), ensure_ascii=False).encode()
        moment = str(int(now.timestamp()))
        signed = b".".join((message.key.encode(), moment.encode(), body))
        headers = {
            "Content-Type": "application/cloudevents+json; charset=utf-8",
            "webhook-id": message.key,
            "webhook-timestamp": moment,
            "webhook-signature": " ".join(_signature(key, signed) for key in keys),
        }
        return Request("POST", "", headers, body)

    def outcome(self, message: Message, answer: Answer) -> Outcome:
        """See `Adapter.outcome`; a webhook has no activation, so that every machine is active."""
        outcome = judged(answer)
        if outcome.verdict is Verdict.DONE and message.kind is Kind.REGISTRATION:
            return Outcome(Verdict.DONE, answer={"activation": "active"})
        if answer.code == 410:
            return Outcome(Verdict.FOREIGN, f"{outcome.reason}: the receiver wants to hear no more")
        if outcome.verdict is Verdict.UNKNOWN:
            return Outcome(Verdict.FOREIGN, f"{outcome.reason}: there is no such webhook")
        if answer.code in (502, 504):  # the receiver is overloaded: slow down for all
            return Outcome(Verdict.AWAY, outcome.reason)
        return outcome

    def _event(self, message: Message) -> dict[str, Any]:
        data = json.loads(message.body)
        event = {
            "specversion": "1.0",
            "id": message.key,
            "source": self._source,
            "type": _TYPES.get(message.kind) or f"mesbridge.machine.{data['type']}.v1",
            "datacontenttype": "application/json",
        }
        if message.machine is not None:
            event["subject"] = message.machine
        moment = data.get("time") or data.get("since")
        if moment is not None:
            event["time"] = moment
        return {**event, "data": data}


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise SecretError(f"is no base64; {_ADVICE}") from None
    if not secret.startswith(_PREFIX):
        raise SecretError(f"does not begin with {_PREFIX}; {_ADVICE}")
    if len(key) not in _KEY_BYTES:
        raise SecretError(f"holds {len(key)} bytes; {_ADVICE}")
    return key


def _signature(key: bytes, signed: bytes) -> str:
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
