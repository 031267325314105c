"""How the command `mesbridge` talks to the bridge that runs: HTTP on loopback, for whoever may read the state folder.

The bridge listens on a port of its own and leaves the port and a random token in ``control.json`` in its state
folder, mode 0600; both are new at each start. A command is a POST of a JSON object that carries the token; its
answer is a JSON object, or the reason why not.
"""

from __future__ import annotations

import contextlib
import hmac
import inspect
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import structlog

from bridge.files import write_private

log = structlog.get_logger(__name__)

FILE = "control.json"
_HOST = "127.0.0.1"
_LARGEST_BODY = 16 * 1024
_ANSWER_WITHIN_S = 10.0
_END_WITHIN_S = 1.0

Command = Callable[[Mapping[str, Any]], dict[str, Any] | Awaitable[dict[str, Any]]]


class Refused(Exception):
    """A command that cannot be done; the text says why, and what to do."""


class ControlError(Exception):
    """The bridge cannot be asked, or refuses; the text says which, why, and what to do."""


@contextlib.asynccontextmanager
async def listen(folder: Path, commands: Mapping[str, Command]) -> AsyncIterator[None]:
    """Take `commands`, by path such as ``pair/open``, as long as the context lasts. Raises `OSError`."""
    from aiohttp import web

    token = secrets.token_urlsafe(32)

    async def answer(request: web.Request) -> web.Response:
        # A page in a browser on this computer can reach the port too, under whatever name it has for it.
        own = request.headers.get("Host") == f"{_HOST}:{port}"
        said = request.headers.get("Authorization", "").encode(errors="replace")
        if not own or not hmac.compare_digest(said, f"Bearer {token}".encode()):
            return refusal(403, "this is not for you")
        command = commands.get(request.match_info["command"])
        if command is None:
            return refusal(404, "this bridge has no such command")
        try:
            values = json.loads(await request.read())
        except web.HTTPRequestEntityTooLarge:
            return refusal(413, f"a command may have at most {_LARGEST_BODY} bytes: give shorter values")
        except (ValueError, RecursionError):
            values = None
        if not isinstance(values, dict):
            return refusal(422, "a JSON object is expected")
        try:
            done = command(values)
            return web.json_response(await done if inspect.isawaitable(done) else done)
        except Refused as refused:
            return refusal(409, str(refused))
        except Exception:
            log.exception("a command failed in an unforeseen way", command=request.path)
            return refusal(500, "the bridge could not do this, in an unforeseen way: its log says more")

    def refusal(status: int, text: str) -> web.Response:
        return web.json_response({"error": text}, status=status)

    app = web.Application(client_max_size=_LARGEST_BODY)
    app.router.add_post("/{command:[a-z/]+}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_END_WITHIN_S)
    await runner.setup()
    path = folder / FILE
    try:
        await web.TCPSite(runner, _HOST, 0).start()
        port = runner.addresses[0][1]
        write_private(path, json.dumps({"port": port, "token": token}).encode())
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        await runner.cleanup()


def ask(folder: Path, command: str, **values: Any) -> dict[str, Any]:
    """What the bridge with this state folder answers to `command`. Raises `ControlError`."""
    import requests

    folder = folder.absolute()
    path = folder / FILE
    none_runs = (
        f"no bridge runs with the state folder {folder}: start it with `mesbridge run CONFIG`, or give"
        " --settings the same file as there"
    )
    try:
        known = json.loads(path.read_bytes())
        port, token = int(known["port"]), str(known["token"])
    except FileNotFoundError:
        raise ControlError(none_runs) from None
    except PermissionError:
        raise ControlError(
            f"{path}: may not be read by this user; give the command as the user under whom the bridge runs"
        ) from None
    except OSError as error:
        raise ControlError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise ControlError(f"{path}: is damaged; restart the bridge") from None
    stale = f"{none_runs} ({path} was left by one that did not end in order)"
    with requests.Session() as http:
        http.trust_env = False  # a proxy has no business here
        try:
            response = http.post(
                f"http://{_HOST}:{port}/{command}",
                json=values,
                headers={"Authorization": f"Bearer {token}"},
                timeout=_ANSWER_WITHIN_S,
                allow_redirects=False,
            )
            answer = response.json()
        except requests.ConnectionError:
            raise ControlError(stale) from None
        except requests.Timeout:
            raise ControlError(
                f"the bridge with the state folder {folder} does not answer within {_ANSWER_WITHIN_S:g} s;"
                " look into its log"
            ) from None
        except (requests.RequestException, ValueError):
            raise ControlError(stale) from None
    if response.status_code == 403 or not isinstance(answer, dict):
        raise ControlError(stale)
    if response.status_code != 200:
        raise ControlError(str(answer.get("error", f"the bridge answers {response.status_code}")))
    return answer
