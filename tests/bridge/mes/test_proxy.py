"""A MES is reached through the proxy of its section, else through that of the environment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from bridge.mes.client import Verdict
from bridge.mes.store import MesError
from tests.bridge.mes.authority import Authority
from tests.bridge.mes.peers import Peer, Proxy, listening, proxying, sent, server_context, settings_of


@pytest.fixture(autouse=True)
def no_proxy_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with proxying() as found:
        yield found


@pytest.fixture(params=["http", "https"])
def mes(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Peer]:
    plant = Authority(tmp_path)
    context = server_context(plant.certificate("mes")) if request.param == "https" else None
    with listening(context) as peer:
        yield peer


def trust(folder: Path, mes: Peer) -> dict[str, Path]:
    return {"ca_file": folder / "Plant CA.pem"} if mes.scheme == "https" else {}


def test_the_proxy_of_the_settings_is_taken(tmp_path: Path, proxy: Proxy, mes: Peer) -> None:
    assert (
        sent(settings_of(tmp_path, mes.url, proxy=proxy.url, **trust(tmp_path, mes))).verdict is Verdict.DONE
    )
    tunnel, absolute = f"CONNECT 127.0.0.1:{mes.port} ", f"POST {mes.url}/services/s/heartbeat "
    (asked,) = proxy.asked
    assert asked.startswith(tunnel if mes.scheme == "https" else absolute)
    assert len(mes.seen) == 1


def test_the_proxy_of_the_environment_is_taken_when_the_settings_name_none(
    tmp_path: Path, proxy: Proxy, mes: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{mes.scheme}_proxy", proxy.url.replace("//", "//user:pass@"))
    proxy.wants = "user:pass"
    assert sent(settings_of(tmp_path, mes.url, **trust(tmp_path, mes))).verdict is Verdict.DONE
    assert len(proxy.asked) == 1
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert sent(settings_of(tmp_path, mes.url, **trust(tmp_path, mes))).verdict is Verdict.DONE
    assert len(proxy.asked) == 1


def test_no_proxy_at_all_can_be_said_in_the_settings(
    tmp_path: Path, proxy: Proxy, mes: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{mes.scheme}_proxy", proxy.url)
    assert sent(settings_of(tmp_path, mes.url, proxy="", **trust(tmp_path, mes))).verdict is Verdict.DONE
    assert proxy.asked == []


def test_a_proxy_knows_the_bridge_by_credentials_from_a_file(tmp_path: Path, proxy: Proxy, mes: Peer) -> None:
    proxy.wants = "bridge:p@ss:wörd"
    file = tmp_path / "proxy.password"
    file.write_text("bridge:p@ss:wörd\n", encoding="utf-8")
    settings = settings_of(
        tmp_path, mes.url, proxy=proxy.url, proxy_credentials_file=file, **trust(tmp_path, mes)
    )
    assert sent(settings).verdict is Verdict.DONE
    assert "proxy-authorization" not in mes.seen[0][1]


def test_a_proxy_that_wants_credentials_is_no_refusal_by_the_mes(
    tmp_path: Path, proxy: Proxy, mes: Peer
) -> None:
    proxy.wants = "bridge:secret"
    outcome = sent(settings_of(tmp_path, mes.url, proxy=proxy.url, **trust(tmp_path, mes)))
    assert outcome.verdict in (Verdict.AWAY, Verdict.FOREIGN)
    assert "407" in outcome.reason
    assert "proxy_credentials_file" in outcome.reason


def test_a_proxy_that_is_away_is_named(tmp_path: Path, mes: Peer) -> None:
    outcome = sent(settings_of(tmp_path, mes.url, proxy="http://127.0.0.1:1", **trust(tmp_path, mes)))
    assert outcome.verdict is Verdict.AWAY
    assert "the proxy 127.0.0.1:1 does not let the bridge through: Connection refused" in outcome.reason


@pytest.mark.parametrize("content", ["only-a-user", "user:pass\nuser:pass"])
def test_what_are_no_credentials_is_said_without_showing_them(tmp_path: Path, content: str) -> None:
    file = tmp_path / "proxy.password"
    file.write_text(content)
    settings = settings_of(tmp_path, "http://mes", proxy="http://p:1", proxy_credentials_file=file)
    with pytest.raises(
        MesError, match=r"\[\[mes\]\] id = 3: proxy_credentials_file: .*user:password"
    ) as caught:
        sent(settings)
    assert content not in str(caught.value)


def test_a_proxy_in_the_environment_that_is_no_url_is_said_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://user:secret@proxy:port")
    with pytest.raises(MesError, match="the proxy in the environment") as caught:
        sent(settings_of(tmp_path, "http://mes"))
    assert "secret" not in str(caught.value)


def test_credentials_in_netrc_do_not_replace_the_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login user password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with listening() as peer:
        assert requests.utils.get_netrc_auth(peer.url)  # it would be found
        sent(settings_of(tmp_path, peer.url))
    assert peer.seen[0][1]["authorization"] == "Token correct-horse"
