"""What a key may do: OctoPrint's permissions for its user, and the few requests that it may make at all.

A request comes in as a `Request`, the verdict goes out. OctoPrint's permissions alone are not enough: any
logged-in user may mint further keys, and FILES_UPLOAD opens copying and making folders as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

STATUS = ("STATUS",)
JOB_CONTROL = (*STATUS, "FILES_LIST", "FILES_UPLOAD", "FILES_SELECT", "PRINT")
"""OctoPrint's names of the permissions of a key that only reads, and of one that controls jobs too."""


def permissions(job_control: bool) -> list[str]:
    """The permissions that the user of such a key gets."""
    return list(JOB_CONTROL if job_control else STATUS)


@dataclass(frozen=True)
class Request:
    """What the verdict needs of a request: `endpoint` is Flask's name of it, `place` the parts of its path,
    `query` what stands behind the question mark, `form` its fields, `body` its JSON object."""

    method: str
    endpoint: str | None
    place: Mapping[str, Any] = field(default_factory=dict)
    query: Mapping[str, Any] = field(default_factory=dict)
    form: Mapping[str, Any] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)


def _any(request: Request) -> bool:
    return True


def _only_passive(request: Request) -> bool:
    """A login that names no user; it gives the session with which the push socket is opened."""
    return request.body.get("passive") is True and not {"user", "pass"} & set(request.body)


def _only_a_file(request: Request) -> bool:
    """No new folder, nothing for the printer's own storage, and nothing that is said in the address."""
    return request.place.get("target") == "local" and "foldername" not in request.form and not request.query


def _only_select(request: Request) -> bool:
    """Of select, unselect, slice, analyse, refresh_thumbnails, copy, move and uploadSd."""
    return request.body.get("command") == "select"


def _only_job_commands(request: Request) -> bool:
    return request.body.get("command") in ("start", "restart", "pause", "cancel")


READING = {
    ("GET", "api.apiVersion"): _any,
    ("GET", "api.printerState"): _any,
    ("GET", "api.jobState"): _any,
    ("GET", "api.get_current_user"): _any,
    ("POST", "api.login"): _only_passive,
}
"""The (method, endpoint) pairs of a key, and what must hold of such a request; HEAD and OPTIONS are not GET."""

CONTROLLING = {
    **READING,
    ("GET", "api.readGcodeFiles"): _any,
    ("GET", "api.readGcodeFilesForOrigin"): _any,
    ("GET", "api.readGcodeFile"): _any,
    ("POST", "api.uploadGcodeFile"): _only_a_file,
    ("POST", "api.gcodeFileCommand"): _only_select,
    ("POST", "api.controlJob"): _only_job_commands,
}
"""The same for a key with job control."""


def allows(job_control: bool, request: Request) -> bool:
    """Whether a key may make this request."""
    condition = (CONTROLLING if job_control else READING).get((request.method, request.endpoint or ""))
    return condition is not None and condition(request)
