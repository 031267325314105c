"""Where OctoPrint's requests meet `Access`: the hooks that see a key, a request, an answer or a download.

OctoPrint attaches `check` to all of its API and to the pages of all plugins. Its other pages and the downloads
are outside of that, so a key counts for nothing there; and a key never gives a cookie, which would outlive a
start of OctoPrint without this plugin.
"""

from __future__ import annotations

from typing import Any

import flask
from flask_babel import gettext
from octoprint.server import current_user

from . import rights
from .access import Access
from .service_users import is_service_user


class Guard:
    """Flask's side of `Access`."""

    def __init__(self, access: Access, logger: Any) -> None:
        self._access = access
        self._logger = logger
        self._told_of_url = False

    def user_for(self, api_key: Any) -> Any:
        """The user that `api_key` stands for in this request, or None. Never raises: OctoPrint would log the key."""
        try:
            record = self._access.find(api_key) if flask.has_request_context() else None
            if record is None or flask.request.blueprint is None:
                return None
            if "apikey" in flask.request.values:  # where OctoPrint looks first
                self._refuse_address()
                return None
            return self._access.use(record, flask.request.remote_addr)
        except Exception as error:  # noqa: BLE001 - see above; the text of an error could hold the key
            self._logger.error("A key could not be checked and was refused (%s)", type(error).__name__)
            return None

    def check(self) -> None:
        """Before a request: 403 for what a key may not do."""
        user_id = current_user.get_id()
        if flask.g.get("mesbridge_key_in_address"):
            flask.abort(
                403,
                description=gettext(
                    "The key of the MES bridge is accepted in the header X-Api-Key only. Given in the address, it "
                    "stands in logs: generate a new one"
                ),
            )
        if is_service_user(user_id) and self._access.denies(user_id, _request()):
            flask.abort(403, description=gettext("The key of the MES bridge does not allow this"))

    def without_cookie(self, response: Any) -> Any:
        """After a request: a key's holder gets no cookie, which OctoPrint 1.11.4 would set against its own intent."""
        if is_service_user(current_user.get_id()):
            flask.session.clear()
            flask.session.modified = False  # OctoPrint cannot delete a cookie; not to set it is enough
        return response

    def check_download(self, request: Any, *args: Any, **kwargs: Any) -> None:
        """Before a download, whatever groups a service user was put into."""
        if is_service_user(current_user.get_id()):
            flask.abort(403)

    def _refuse_address(self) -> None:
        flask.g.mesbridge_key_in_address = True
        if not self._told_of_url:
            self._told_of_url = True
            self._logger.warning(
                "The key was given in the address of a request from %s and refused. It stands in tornado.log now: "
                "generate a new key, and send it in the header X-Api-Key.",
                flask.request.remote_addr,
            )


def _request() -> rights.Request:
    request = flask.request
    place = request.view_args or {}
    if request.method != "POST":
        return rights.Request(request.method, request.endpoint, place, request.args)
    body = request.get_json(silent=True)
    return rights.Request(
        request.method,
        request.endpoint,
        place,
        request.args,
        request.form,
        body if isinstance(body, dict) else {},
    )
