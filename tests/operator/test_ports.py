from __future__ import annotations

import pytest

from portway_operator.annotations import ServiceAnnotations
from portway_operator.objects import Meta, Service, ServicePort
from portway_operator.parse import PortMapping
from portway_operator.ports import PortWish, find_port, speaks, speaks_unknown, wished_ports
from portway_proxy.snapshot import Protocol, Transport

HTTP = ServicePort("http", 80, 8080)
DNS_UDP = ServicePort("dns", 53, 53, "UDP")
DNS_TCP = ServicePort("dns-tcp", 53, "resolver")
SERVICE = Service(Meta("shop", "web"), ports=(HTTP, DNS_UDP, DNS_TCP))


@pytest.mark.parametrize(
    ("ref", "port"),
    [
        (80, HTTP),
        ("http", HTTP),
        (53, DNS_TCP),
        ("dns-tcp", DNS_TCP),
        ("resolver", DNS_TCP),
        ("dns", None),
        (8080, None),
        ("https", None),
    ],
)
def test_a_tcp_port_is_found_by_number_name_or_named_target(ref: int | str, port: ServicePort | None) -> None:
    assert find_port(SERVICE, ref) is port


def test_a_udp_port_is_another_than_the_tcp_port_of_its_number() -> None:
    assert find_port(SERVICE, 53, Transport.UDP) is DNS_UDP
    assert find_port(SERVICE, "dns", Transport.UDP) is DNS_UDP
    assert find_port(SERVICE, 80, Transport.UDP) is None


@pytest.mark.parametrize(
    ("name", "protocol"),
    [
        ("", Protocol.HTTP),
        ("http", Protocol.HTTP),
        ("HTTP", Protocol.HTTP),
        ("kubernetes.io/ws", Protocol.HTTP),
        ("kubernetes.io/h2c", Protocol.H2C),
        ("grpc", Protocol.H2C),
        ("example.com/private", Protocol.HTTP),
        ("https", Protocol.HTTPS),
        ("kubernetes.io/wss", Protocol.HTTPS),
        ("h2", Protocol.H2),
        *(
            (name, Protocol.OPAQUE)
            for name in ("tcp", "postgresql", "mysql", "redis", "mongo", "amqp", "mqtt", "kafka")
        ),
        ("tls", Protocol.OPAQUE),
    ],
)
def test_app_protocol_says_what_a_port_speaks(name: str, protocol: Protocol) -> None:
    assert speaks(ServicePort("x", 1, 1, app_protocol=name), ServiceAnnotations()) is protocol


def test_private_names_are_told_apart_from_what_we_know() -> None:
    names = ["", "http", "https", "h2", "h2c", "kubernetes.io/h2c", "grpc", "kubernetes.io/wss", "example.com/private"]
    ports = [ServicePort("x", 1, 1, app_protocol=name) for name in names]
    assert [port.app_protocol for port in ports if speaks_unknown(port)] == ["example.com/private"]


@pytest.mark.parametrize("opaque", [(80,), ("http",), (443, "http")])
def test_the_annotation_makes_a_port_opaque_by_number_or_name(opaque: tuple[int | str, ...]) -> None:
    assert speaks(HTTP, ServiceAnnotations(opaque_ports=opaque)) is Protocol.OPAQUE


def test_a_port_without_name_is_not_meant_by_an_empty_one() -> None:
    assert speaks(ServicePort("", 80, 80), ServiceAnnotations(opaque_ports=("",))) is Protocol.HTTP


def test_a_balancer_of_our_class_wants_all_of_its_ports_and_annotations_add_theirs() -> None:
    service = Service(
        Meta("shop", "db"),
        type="LoadBalancer",
        load_balancer_class="portway.dev/l4",
        ports=(ServicePort("pg", 5432, 5432, field="spec.ports[0]"),),
    )
    annotations = ServiceAnnotations(tcp_ports=(PortMapping(6000, "pg"),), udp_ports=(PortMapping(53, 53),))
    assert list(wished_ports(service, annotations)) == [
        PortWish(5432, 5432, Transport.TCP, "spec.ports[0]"),
        PortWish(6000, "pg", Transport.TCP, "metadata.annotations[portway.dev/tcp-ports]"),
        PortWish(53, 53, Transport.UDP, "metadata.annotations[portway.dev/udp-ports]"),
    ]


@pytest.mark.parametrize(("kind", "name"), [("ClusterIP", "portway.dev/l4"), ("LoadBalancer", "example.com/lb")])
def test_a_service_of_another_type_or_class_wants_no_port(kind: str, name: str) -> None:
    service = Service(Meta("shop", "db"), type=kind, load_balancer_class=name, ports=(HTTP,))
    assert list(wished_ports(service, ServiceAnnotations())) == []
