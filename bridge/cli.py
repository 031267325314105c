"""The command `mesbridge`. In: its arguments. Out: an exit status, and text for people (or JSON where asked for).

What a subcommand needs is imported when it runs, so that each starts as fast as it can.
"""

from __future__ import annotations

import argparse
import gc
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from bridge import __version__


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand; returns its exit status."""
    if sys.version_info < (3, 11):  # noqa: UP036 (the plugin alone runs on 3.9)
        print(
            "mesbridge: Python 3.11 or newer is needed for the bridge; the plugin alone runs on 3.9",
            file=sys.stderr,
        )
        return 2
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except ModuleNotFoundError as error:
        print(
            f"mesbridge: {error.name} is not installed; install the bridge with its packages:"
            " pip install '/path/to/mesbridge[bridge]', with the folder or zip of its source",
            file=sys.stderr,
        )
        return 2
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mesbridge", description="Connects printers run by OctoPrint to OPC UA (umati) and to a MES."
    )
    parser.add_argument("--version", action="version", version=f"mesbridge {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    check = commands.add_parser(
        "check", help="say what of an Aggregator config.json can be served, and what is wrong"
    )
    check.add_argument("config", type=Path, metavar="CONFIG")
    check.add_argument(
        "--settings", type=Path, metavar="FILE", help="look into the bridge's own settings, too"
    )
    check.add_argument(
        "--online", action="store_true", help="ask each OctoPrint, and each MES of the settings"
    )
    check.add_argument("--json", action="store_true", help="print one JSON object")
    check.set_defaults(run=_check)

    convert = commands.add_parser(
        "convert", help="rewrite a config.json for another version of the Aggregator"
    )
    convert.add_argument("config", type=Path, metavar="CONFIG")
    convert.add_argument(
        "--to",
        required=True,
        choices=("1.1", "1.2", "1.3", "1.4"),
        help="the version of the Aggregator; 1.2 and 1.3 are the same, and 1.4 is for later ones, too",
    )
    goal = convert.add_mutually_exclusive_group()
    goal.add_argument("--output", type=Path, metavar="FILE", help="the new file; default: standard output")
    goal.add_argument("--in-place", action="store_true", help="replace the file that is read")
    convert.add_argument("--force", action="store_true", help="replace the output if it is there")
    convert.add_argument(
        "--inline", action="store_true", help="at 1.4: leave keys in the file that stand there already"
    )
    convert.set_defaults(run=_convert)

    run = commands.add_parser("run", help="serve the machines of a config.json")
    run.add_argument("config", type=Path, metavar="CONFIG")
    run.add_argument("--settings", type=Path, metavar="FILE", help="the bridge's own settings, TOML")
    run.set_defaults(run=_run)

    user = commands.add_parser("user", help="the users of the OPC UA server")
    actions = user.add_subparsers(title="actions", required=True, metavar="ACTION")
    roles = ("observer", "operator")
    for action, text in (
        ("add", "add a user, or change its password or certificate"),
        ("list", "show the users and their roles"),
        ("set-role", "say whether a user only looks (observer) or also calls methods (operator)"),
        ("remove", "remove a user; its sessions end"),
    ):
        one = actions.add_parser(action, help=text)
        if action != "list":
            one.add_argument("name", metavar="NAME")
        if action == "add":
            one.add_argument("--role", choices=roles, help="default: observer, or the one that it has")
            one.add_argument(
                "--certificate",
                type=Path,
                metavar="FILE",
                help="log in with this certificate, not a password",
            )
        if action == "set-role":
            one.add_argument("role", choices=roles, metavar="ROLE", help=" or ".join(roles))
        one.add_argument("--settings", type=Path, metavar="FILE", help="the bridge's own settings, TOML")
        one.set_defaults(run=_user, action=action)

    trust = commands.add_parser("trust", help="the clients that may connect to the OPC UA server")
    actions = trust.add_subparsers(title="actions", required=True, metavar="ACTION")
    for action, text in (
        ("list", "show the trusted clients, and those that were refused"),
        ("accept", "let in a client that was refused"),
        ("remove", "let in a client no longer; its connections end"),
    ):
        one = actions.add_parser(action, help=text)
        if action != "list":
            one.add_argument("id", metavar="ID", help="the first digits of its thumbprint, as listed")
        one.add_argument("--settings", type=Path, metavar="FILE", help="the bridge's own settings, TOML")
        one.set_defaults(run=_trust, action=action)

    pair = commands.add_parser("pair", help="take in an OctoPrint whose plugin asks to be paired")
    actions = pair.add_subparsers(title="actions", required=True, metavar="ACTION")
    for action, text in (
        ("open", "take requests from plugins for some minutes"),
        ("close", "take no more requests"),
        ("list", "show the requests, each with the code that OctoPrint shows too"),
        ("accept", "take in the machine of a request, when the codes are the same"),
        ("refuse", "end a request"),
    ):
        one = actions.add_parser(action, help=text)
        if action == "open":
            one.add_argument("--minutes", type=_minutes, default=10.0, metavar="N", help="default: 10")
        if action in ("accept", "refuse"):
            one.add_argument("id", metavar="ID")
        if action == "accept":
            one.add_argument("--url", metavar="URL", help="where the bridge reaches this OctoPrint")
            one.add_argument("--name", metavar="NAME", help="the machine's name in the MES and on OPC UA")
            one.add_argument(
                "--mes", type=int, nargs="+", metavar="N", help="the MES instances that show the machine"
            )
        one.add_argument("--settings", type=Path, metavar="FILE", help="the same as the running bridge's")
        one.set_defaults(run=_pair, action=action)

    mes = commands.add_parser("mes", help="how it stands with the MES instances of the running bridge")
    actions = mes.add_subparsers(title="actions", required=True, metavar="ACTION")
    one = actions.add_parser(
        "status", help="show, for each machine and MES, what was told, waits and is refused"
    )
    one.add_argument("--json", action="store_true", help="print one JSON object")
    again = actions.add_parser("retry", help="send once more what a MES refused")
    again.add_argument("--mes", type=int, metavar="N", help="only what this MES instance refused")
    again.add_argument("--machine", metavar="ID", help="only what is of this machine, by id or name")
    for action, parser_of in (("status", one), ("retry", again)):
        parser_of.add_argument(
            "--settings", type=Path, metavar="FILE", help="the same as the running bridge's"
        )
        parser_of.set_defaults(run=_mes, action=action)

    backup = commands.add_parser(
        "backup", help="copy the state folder into one file, also while the bridge runs"
    )
    backup.add_argument("file", type=Path, metavar="FILE", help="such as mesbridge.tar.gz; must not exist")
    backup.add_argument(
        "--with-config",
        type=Path,
        metavar="CONFIG",
        help="also this config.json, the settings, and what they name",
    )
    backup.set_defaults(run=_backup)
    restore = commands.add_parser("restore", help="bring a backup back; the bridge has to be stopped")
    restore.add_argument("file", type=Path, metavar="FILE", help="what `mesbridge backup` wrote")
    restore.add_argument(
        "--config-folder", type=Path, metavar="FOLDER", help="take the configuration out, to this new folder"
    )
    restore.set_defaults(run=_restore)
    for one in (backup, restore):
        one.add_argument("--settings", type=Path, metavar="FILE", help="the bridge's own settings, TOML")

    again = commands.add_parser(
        "reload",
        help="have the running bridge take over what has changed in its files, and say what that was",
    )
    again.add_argument("--json", action="store_true", help="print one JSON object")
    again.add_argument("--settings", type=Path, metavar="FILE", help="the same as the running bridge's")
    again.set_defaults(run=_reload)

    watch = commands.add_parser("watch", help="show every machine of the running bridge, live")
    watch.add_argument("--settings", type=Path, metavar="FILE", help="the same as the running bridge's")
    watch.add_argument("--once", action="store_true", help="print once, then end")
    watch.set_defaults(run=_watch)

    sandbox = commands.add_parser("sandbox", help="run a small MES to try the chain with")
    sandbox.add_argument("--host", default="127.0.0.1")
    sandbox.add_argument("--port", type=int, default=8090)
    sandbox.add_argument("--folder", type=Path, default=Path("mes-sandbox"), help="where it keeps its data")
    sandbox.add_argument(
        "--service-id", default="sandbox", metavar="ID", help="the service in the paths; default: %(default)s"
    )
    sandbox.add_argument(
        "--pending", action="store_true", help="machines wait until a person activates them on the page"
    )
    sandbox.set_defaults(run=_sandbox)

    demo = commands.add_parser("demo", help="run the whole chain on a virtual printer")
    demo.add_argument("--octoprint", default="1.11.8", metavar="VERSION", help="default: %(default)s")
    demo.add_argument(
        "--environments", type=Path, metavar="FOLDER", help="where OctoPrint is installed, and kept"
    )
    demo.add_argument("--check", action="store_true", help="two prints without a person; one line of JSON")
    demo.add_argument(
        "--without-plugin", action="store_true", help="on an OctoPrint that has nothing but a user's API key"
    )
    demo.add_argument(
        "--only-prepare", action="store_true", help="install OctoPrint and the plugin, then end"
    )
    demo.set_defaults(run=_demo)

    completion = commands.add_parser("completion", help="print what has a shell complete these commands")
    completion.add_argument("shell", choices=("bash", "zsh", "fish"))
    completion.set_defaults(run=_completion)
    return parser


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = math.nan
    if not 0 < minutes < math.inf:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time: a number of minutes above 0 is expected, such as 10"
        )
    return minutes


def _check(options: argparse.Namespace) -> int:
    from bridge.commands import check

    return check.run(
        options.config, options.settings, as_json=options.json, stdout=sys.stdout, ask=options.online
    )


def _convert(options: argparse.Namespace) -> int:
    from bridge.commands import convert

    wish = convert.Wish(
        options.config,
        "1.2" if options.to == "1.3" else options.to,
        options.output,
        options.in_place,
        options.force,
        options.inline,
    )
    return convert.run(wish, sys.stdout, sys.stderr)


def _run(options: argparse.Namespace) -> int:
    gc.disable()  # imports make many objects and no garbage: a tenth of the start is saved
    from bridge.commands import run

    gc.freeze()
    gc.enable()
    return run.run(options.config, options.settings)


def _user(options: argparse.Namespace) -> int:
    from bridge.commands import user

    return user.run(
        options.action,
        getattr(options, "name", ""),
        getattr(options, "role", None),
        options.settings,
        getattr(options, "certificate", None),
    )


def _trust(options: argparse.Namespace) -> int:
    from bridge.commands import trust

    return trust.run(options.action, getattr(options, "id", None), options.settings)


def _pair(options: argparse.Namespace) -> int:
    from bridge.commands import pair

    return pair.run(options)


def _mes(options: argparse.Namespace) -> int:
    from bridge.commands import mes

    return mes.run(options)


def _backup(options: argparse.Namespace) -> int:
    from bridge.commands import backup

    return backup.run(options)


def _restore(options: argparse.Namespace) -> int:
    from bridge.commands import restore

    return restore.run(options)


def _reload(options: argparse.Namespace) -> int:
    from bridge.commands import reload

    return reload.run(options.settings, as_json=options.json)


def _watch(options: argparse.Namespace) -> int:
    from bridge.commands import watch

    return watch.run(options)


def _sandbox(options: argparse.Namespace) -> int:
    from bridge import sandbox

    return sandbox.run(
        options.host,
        options.port,
        options.folder,
        service_id=options.service_id,
        activate=not options.pending,
    )


def _demo(options: argparse.Namespace) -> int:
    from bridge.demo import command

    return command.run(options)


def _completion(options: argparse.Namespace) -> int:
    from bridge.commands import completion

    return completion.run(_parser(), options.shell, sys.stdout)


if __name__ == "__main__":
    sys.exit(main())
