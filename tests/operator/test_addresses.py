from __future__ import annotations

import ipaddress

import pytest

from portway_operator.addresses import special_use


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("10.0.0.1", ""),
        ("8.8.8.8", ""),
        ("100.64.0.1", ""),
        ("fd00::1", ""),
        ("2001:db8::1", ""),
        ("127.0.0.1", "loopback"),
        ("127.255.255.254", "loopback"),
        ("::1", "loopback"),
        ("169.254.1.1", "link-local"),
        ("fe80::1", "link-local"),
        ("fe80::1%eth0", "scoped"),
        ("169.254.169.254", "metadata"),
        ("fd00:ec2::254", "metadata"),
        ("100.100.100.200", "metadata"),
        ("0.0.0.0", "unspecified"),
        ("0.1.2.3", "unspecified"),
        ("::", "unspecified"),
        ("255.255.255.255", "unspecified"),
        ("224.0.0.1", "multicast"),
        ("ff02::1", "multicast"),
        ("::ffff:127.0.0.1", "loopback"),
        ("::ffff:10.0.0.1", ""),
        ("::ffff:169.254.169.254", "metadata"),
        ("2002:7f00:1::", "loopback"),
        ("64:ff9b::a9fe:a9fe", "metadata"),
    ],
)
def test_addresses_that_serve_no_tenant_are_named(address: str, reason: str) -> None:
    assert special_use(ipaddress.ip_address(address)) == reason
