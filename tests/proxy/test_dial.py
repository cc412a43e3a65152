"""The addresses of operators, and the files that are read for each connection to one."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from certs import issue
from portway_proxy.dial import Address, Credentials, Operators, Target, Unreachable


@pytest.mark.parametrize(
    ("text", "address", "shown"),
    [
        ("https://portway-operator", Address("https", "portway-operator", 9444), "https://portway-operator:9444"),
        ("https://operator.ns.svc:444/", Address("https", "operator.ns.svc", 444), "https://operator.ns.svc:444"),
        ("https://[fd00::1]:444", Address("https", "fd00::1", 444), "https://[fd00::1]:444"),
        ("unix:///run/portway/cfg.sock", Address("unix", path="/run/portway/cfg.sock"), "unix:///run/portway/cfg.sock"),
    ],
)
def test_an_address_is_a_url(text: str, address: Address, shown: str) -> None:
    assert Address.parse(text) == address
    assert str(address) == shown


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("portway-operator:9444", "is no operator"),
        ("", "is no operator"),
        ("https://", "is no operator"),
        ("ftp://operator", "is no operator"),
        ("https://operator/v1/stream", "more than a host and a port"),
        ("https://operator?x=1", "more than a host and a port"),
        ("https://me:secret@operator", "more than a host and a port"),
        ("https://operator:99999", "out of range"),
        ("unix://run/portway/cfg.sock", "is no socket"),
        ("unix:", "is no socket"),
        ("http://operator", "--insecure allows it"),
    ],
)
def test_what_is_none_is_refused_with_what_to_write(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Address.parse(text)


def test_http_must_be_asked_for_twice() -> None:
    assert Address.parse("http://operator:80", insecure=True) == Address("http", "operator", 80)


@pytest.mark.parametrize(
    ("target", "url", "shown"),
    [
        (
            Target(Address("https", "operator"), "10.0.0.1"),
            "https://10.0.0.1:9444/x",
            "https://operator:9444 (10.0.0.1)",
        ),
        (Target(Address("https", "fd00::1"), "fd00::1"), "https://[fd00::1]:9444/x", "https://[fd00::1]:9444"),
        (Target(Address("unix", path="/cfg.sock")), "http://operator/x", "unix:///cfg.sock"),
    ],
)
def test_a_target_is_one_address_of_a_name(target: Target, url: str, shown: str) -> None:
    assert target.url("/x") == url
    assert str(target) == shown


async def test_every_address_of_every_name_is_a_target(monkeypatch: pytest.MonkeyPatch) -> None:
    async def getaddrinfo(host: str, port: int, **_: object) -> list[object]:
        found = {"operator": ["10.0.0.1", "10.0.0.2", "10.0.0.1"], "other": ["fd00::1"]}.get(host)
        if found is None:
            raise socket.gaierror(-2, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in found]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    operators = Operators(tuple(Address("https", host) for host in ("operator", "missing", "other")), Credentials())
    assert sorted(target.ip for target in await operators.resolve()) == ["10.0.0.1", "10.0.0.2", "fd00::1"]
    with pytest.raises(Unreachable, match=r"https://missing:9444 cannot be resolved: .*not known"):
        await Operators((Address("https", "missing"),), Credentials()).resolve()


def test_a_token_is_read_for_every_request(tmp_path: Path) -> None:
    token = tmp_path / "token"
    credentials = Credentials(token_file=token)
    for text in ("one\n", "two"):
        token.write_text(text)
        assert credentials.authorization() == f"Bearer {text.strip()}"
    token.unlink()
    with pytest.raises(Unreachable, match="the token cannot be read: No such file"):
        credentials.authorization()
    assert Credentials().authorization() is None


def test_certificates_that_do_not_load_are_a_reason_and_no_crash(tmp_path: Path) -> None:
    authority, key = tmp_path / "ca.crt", tmp_path / "key"
    with pytest.raises(Unreachable, match="the certificates cannot be read: No such file"):
        Credentials(authority).context()
    authority.write_text("junk")
    with pytest.raises(Unreachable, match="the certificates cannot be read"):
        Credentials(authority).context()
    chain, private = issue("proxy", password=b"secret")
    authority.write_bytes(chain)
    key.write_bytes(private)
    # An encrypted key must not have OpenSSL ask for its password at a terminal.
    with pytest.raises(Unreachable, match="the certificates cannot be read"):
        Credentials(authority, certificate=(authority, key)).context()


def test_the_authority_in_the_file_is_trusted_and_no_other(tmp_path: Path) -> None:
    authority = tmp_path / "ca.crt"
    authority.write_bytes(issue("authority")[0])
    context = Credentials(authority).context()
    assert len(context.get_ca_certs()) <= 1
    assert context.cert_store_stats()["x509"] == 1
    assert context.check_hostname
