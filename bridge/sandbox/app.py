"""The sandbox MES as a Flask application: requests of ``docs/mes-api.yaml`` and of its page in, answers out."""

from __future__ import annotations

import hmac
import json
import secrets
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, Response, render_template, request, send_from_directory
from werkzeug.exceptions import HTTPException

import bridge
from bridge.sandbox import bodies
from bridge.sandbox.bodies import BodyError
from bridge.sandbox.misbehaviour import KINDS, Misbehaving
from bridge.sandbox.store import Answer, ConflictError, Store, UnknownError, digest_of

BASE_PATH = "/api/v2.0/service-panel"
_COMMON = Path(bridge.__file__).parent / "common"
_LONGEST_BODY = 65536
_SHOWN = 50
_SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
    " img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_TITLES = {404: "There is no such path", 405: "Not this method", 413: "The body is too long"}
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def create_app(store: Store, token: str, service_id: str, loopback: bool = True) -> Flask:
    """The application. With `loopback` it only answers to names of this computer, which keeps web pages from
    elsewhere out (DNS rebinding)."""
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = _LONGEST_BODY
    app.wsgi_app = misbehaving = Misbehaving(app.wsgi_app, BASE_PATH)  # type: ignore[method-assign]
    form_secret = secrets.token_urlsafe(24)

    def is_authorised() -> bool:
        given = request.headers.get("Authorization", "")
        return hmac.compare_digest(given.encode(), f"Token {token}".encode())

    @app.before_request
    def check() -> Response | None:
        if loopback and not _is_local(request.host):
            return _problem(421, "This sandbox only answers to 127.0.0.1 and localhost", request.host[:200])
        if not request.path.startswith(BASE_PATH + "/"):
            return None
        if not is_authorised():
            answer = _problem(401, "The token is missing or wrong", "Send: Authorization: Token <token>")
            answer.headers["WWW-Authenticate"] = "Token"
            return answer
        named = (request.view_args or {}).get("service", "")
        if request.view_args is not None and not hmac.compare_digest(named.encode(), service_id.encode()):
            return _problem(404, "There is no such service", f"service {named[:200]}")
        return None

    @app.after_request
    def protect(response: Response) -> Response:
        response.headers.update(_SECURITY_HEADERS)
        return response

    @app.errorhandler(BodyError)
    def bad_body(error: BodyError) -> Response:
        return _problem(422, "The body is not what the contract says", str(error))

    @app.errorhandler(UnknownError)
    def unknown(error: UnknownError) -> Response:
        return _problem(404, "This is not known here", str(error))

    @app.errorhandler(ConflictError)
    def conflict(_: ConflictError) -> Response:
        return _problem(409, "The Idempotency-Key was used for another body", _key())

    @app.errorhandler(HTTPException)
    def refused(error: HTTPException) -> Response:
        code = error.code or 500
        answer = _problem(code, _TITLES.get(code, error.name), request.path)
        allowed = getattr(error, "valid_methods", None)
        if allowed:
            answer.headers["Allow"] = ", ".join(sorted(allowed))
        return answer

    def write(work: Callable[[sqlite3.Connection, dict[str, Any]], Answer]) -> Response:
        body = _body()
        name = f"{request.method} {request.path}"
        return _answer(store.once(_key(), name, digest_of(body), lambda connection: work(connection, body)))

    @app.get("/common/<path:filename>")
    def common(filename: str) -> Response:
        return send_from_directory(_COMMON, filename)

    service = f"{BASE_PATH}/services/<service>"

    @app.put(f"{service}/machines/<machine>")
    def register(service: str, machine: str) -> Response:
        named = _machine_id(machine)
        return write(lambda db, body: store.register(db, named, bodies.registration(body)))

    @app.put(f"{service}/machines/<machine>/status")
    def set_status(service: str, machine: str) -> Response:
        return write(lambda db, body: store.set_status(db, machine, bodies.status(body)))

    @app.post(f"{service}/machines/<machine>/events")
    def add_event(service: str, machine: str) -> Response:
        return write(lambda db, body: store.add_event(db, machine, _key(), bodies.event(body)))

    @app.post(f"{service}/heartbeat")
    def beat(service: str) -> Response:
        _key()
        store.beat(bodies.heartbeat(_body()))
        return _answer({})

    @app.post(f"{service}/sign-off")
    def sign_off(service: str) -> Response:
        _key()
        store.sign_off(bodies.sign_off(_body()))
        return _answer({})

    @app.get("/")
    def page() -> str:
        return render_template(
            "index.html", form_secret=form_secret, service_id=service_id, misbehaviours=KINDS
        )

    @app.get("/state.json")
    def state() -> Response:
        most = None if request.args.get("all") == "1" else _SHOWN
        return _answer(
            {**store.state(most, request.args.get("since")), "misbehaviour": misbehaving.current()}
        )

    def of_person(work: Callable[[Mapping[str, str]], object]) -> Response:
        """Do what a form of the page says, or a script that knows the token."""
        said = request.form.get("form_secret", "")
        by_page = loopback and hmac.compare_digest(said.encode(errors="replace"), form_secret.encode())
        if not by_page and not is_authorised():
            return _problem(403, "The form is out of date", "Load the page again, or send the token")
        work(request.form)
        return Response(status=303, headers={"Location": "/"})

    @app.post("/activate")
    def activate() -> Response:
        return of_person(lambda form: store.activate(form.get("machine", "")))

    @app.post("/schedule")
    def schedule() -> Response:
        return of_person(lambda form: store.schedule(form.get("machine", ""), bodies.planned(form)))

    @app.post("/unschedule")
    def unschedule() -> Response:
        return of_person(lambda form: store.unschedule(bodies.whole(form, "number")))

    @app.post("/misbehave")
    def misbehave() -> Response:
        return of_person(lambda form: misbehaving.begin(bodies.misbehaviour(form)))

    return app


def _is_local(host: str) -> bool:
    try:
        return urlsplit(f"//{host}").hostname in _LOOPBACK
    except ValueError:
        return False


def _key() -> str:
    key = request.headers.get("Idempotency-Key", "")
    if not 1 <= len(key) <= 256:
        raise BodyError("the header Idempotency-Key with 1 to 256 characters is expected")
    return key


def _machine_id(machine: str) -> str:
    if len(machine) > 128:
        raise BodyError("machine_id: at most 128 characters are expected")
    return machine


def _body() -> dict[str, Any]:
    try:
        body = json.loads(request.get_data())
    except (ValueError, RecursionError):
        raise BodyError("the body: JSON in UTF-8 is expected") from None
    if not isinstance(body, dict):
        raise BodyError("the body: a JSON object is expected")
    return body


def _answer(answer: Answer) -> Response:
    if not answer:
        return Response(status=204)
    return Response(json.dumps(answer), mimetype="application/json")


def _problem(code: int, title: str, detail: str) -> Response:
    """RFC 9457."""
    problem = {"type": "about:blank", "title": title, "status": code, "detail": detail}
    return Response(json.dumps(problem), status=code, mimetype="application/problem+json")
