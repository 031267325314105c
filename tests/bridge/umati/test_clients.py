"""The first contact of an OPC UA client: refused, told in the log, let in by the command that the log names."""

from pathlib import Path

import pytest
from asyncua import ua
from structlog.testing import capture_logs

from bridge import cli
from bridge.opcua import Users
from bridge.settings import OpcUaSettings
from bridge.umati import UmatiServer
from tests.bridge.opcua.authority import issue
from tests.bridge.opcua.clients import connected, gone, prepared
from tests.bridge.opcua.conftest import PASSWORD

CLIENT = issue("Dashboard")


def command(folder: Path, *arguments: str) -> int:
    settings = folder / "settings.toml"
    settings.write_text('[bridge]\nstate_folder = "."\n')
    return cli.main([*arguments, "--settings", str(settings)])


async def test_a_client_is_refused_until_the_command_in_the_log_was_given_and_after_its_removal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Users(tmp_path / "users.json").add("ann", PASSWORD)
    server = UmatiServer(OpcUaSettings(port=0), tmp_path)
    await server.start()
    with capture_logs() as logs:
        with pytest.raises(ua.uaerrors.BadSecurityChecksFailed):
            await (await prepared(server, CLIENT, tmp_path / "client")).connect()
        (told,) = [entry for entry in logs if "hint" in entry]
    assert command(tmp_path, "trust", "list") == 0
    listed = capsys.readouterr().out
    assert f"{told['id']}  Dashboard  urn:example:client" in listed
    _, suggested, _ = told["hint"].split("`")
    assert suggested == f"mesbridge trust accept {told['id']}"
    assert command(tmp_path, *suggested.split()[1:]) == 0
    async with connected(server, CLIENT, tmp_path / "client") as client:
        assert await client.get_namespace_array()
        assert command(tmp_path, "trust", "remove", told["id"]) == 0
        await gone(client)
    await server.stop()


async def test_any_client_is_let_in_where_the_settings_say_so(tmp_path: Path) -> None:
    Users(tmp_path / "users.json").add("ann", PASSWORD)
    server = UmatiServer(OpcUaSettings(port=0, trust="any"), tmp_path)
    await server.start()
    async with connected(server, CLIENT, tmp_path / "client") as client:
        assert await client.get_namespace_array()
    await server.stop()
