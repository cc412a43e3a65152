from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from portway_operator.endpoints import SlicePick, find_endpoints
from portway_operator.objects import EndpointSlice, Meta, SliceEndpoint, SlicePort
from portway_proxy.snapshot import Endpoint

HTTP = SlicePick("http", 8080)


def piece(
    *endpoints: SliceEndpoint, ports: tuple[SlicePort, ...] = (SlicePort("http", 8080),), name: str = "web-1"
) -> EndpointSlice:
    return EndpointSlice(Meta("shop", name), "web", ports, endpoints)


def addresses(*slices: EndpointSlice, pick: SlicePick = HTTP) -> list[str]:
    return [str(endpoint) for endpoint in find_endpoints(slices, pick, anywhere=False).endpoints]


def test_an_endpoint_that_is_ready_in_one_slice_is_ready() -> None:
    slices = piece(SliceEndpoint("10.0.0.1", ready=False)), piece(SliceEndpoint("10.0.0.1"), name="web-2")
    assert addresses(*slices) == ["10.0.0.1:8080"]


def test_terminating_endpoints_that_serve_are_used_when_none_is_ready() -> None:
    leaving = SliceEndpoint("10.0.0.1", ready=False, serving=True, terminating=True)
    assert addresses(piece(leaving, SliceEndpoint("10.0.0.2", ready=False))) == ["10.0.0.1:8080"]
    assert addresses(piece(leaving, SliceEndpoint("10.0.0.3"))) == ["10.0.0.3:8080"]


def test_an_endpoint_that_serves_but_is_neither_ready_nor_terminating_is_not_used() -> None:
    assert addresses(piece(SliceEndpoint("10.0.0.1", ready=False, serving=True))) == []


def test_the_port_may_differ_from_slice_to_slice() -> None:
    other = piece(SliceEndpoint("10.0.0.1"), ports=(SlicePort("http", 9090),), name="web-2")
    assert addresses(piece(SliceEndpoint("10.0.0.1")), other) == ["10.0.0.1:8080", "10.0.0.1:9090"]


def test_a_port_of_another_protocol_is_not_the_one() -> None:
    assert addresses(piece(SliceEndpoint("10.0.0.1"), ports=(SlicePort("http", 53, "UDP"),))) == []


def test_a_port_without_number_means_the_services_own() -> None:
    assert addresses(piece(SliceEndpoint("10.0.0.1"), ports=(SlicePort("http", None),))) == ["10.0.0.1:8080"]


def test_the_zones_that_an_endpoint_is_meant_for_come_with_it() -> None:
    slices = [
        piece(SliceEndpoint("10.0.0.1", for_zones=("b",)), SliceEndpoint("10.0.0.2")),
        piece(SliceEndpoint("10.0.0.1", for_zones=("a", "b")), name="web-2"),
    ]
    assert find_endpoints(slices, HTTP, anywhere=False).endpoints == (
        Endpoint("10.0.0.1", 8080, "", ("a", "b")),
        Endpoint("10.0.0.2", 8080),
    )


def test_the_least_zone_is_kept_when_slices_disagree() -> None:
    slices = [
        piece(SliceEndpoint("10.0.0.1", zone=zone), name=f"web-{index}") for index, zone in enumerate(["b", "", "a"])
    ]
    for order in (slices, slices[::-1]):
        assert find_endpoints(order, HTTP, anywhere=False).endpoints == (Endpoint("10.0.0.1", 8080, "a"),)


def test_a_special_address_is_refused_unless_anywhere_is_fine() -> None:
    slices = [piece(SliceEndpoint("127.0.0.1", special="loopback"), SliceEndpoint("10.0.0.1"))]
    found = find_endpoints(slices, HTTP, anywhere=False)
    assert (found.endpoints, found.refused) == ((Endpoint("10.0.0.1", 8080),), ((slices[0], ("127.0.0.1",)),))
    found = find_endpoints(slices, HTTP, anywhere=True)
    assert (found.endpoints, found.refused) == ((Endpoint("10.0.0.1", 8080), Endpoint("127.0.0.1", 8080)), ())


def test_why_there_is_no_endpoint_is_said() -> None:
    cases = {
        "the Service has no EndpointSlice": [],
        "its EndpointSlices have no TCP port named 'http'": [piece(SliceEndpoint("10.0.0.1"), ports=())],
        "its EndpointSlices are empty": [piece()],
        "none of its 1 endpoints is ready": [piece(SliceEndpoint("10.0.0.1", ready=False))],
        "no Service may lead to its addresses": [piece(SliceEndpoint("127.0.0.1", special="loopback"))],
    }
    assert {find_endpoints(slices, HTTP, anywhere=False).detail for slices in cases.values()} == set(cases)
    pick = SlicePick(None, 9090)
    assert find_endpoints([piece(SliceEndpoint("10.0.0.1"))], pick, anywhere=False).detail == (
        "its EndpointSlices have no TCP port 9090"
    )


ENDPOINTS = st.builds(
    SliceEndpoint,
    st.sampled_from(["10.0.0.1", "10.0.0.2", "fd00::1"]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["", "a", "b"]),
)
SLICES = st.lists(
    st.builds(
        lambda endpoints, ports: piece(*endpoints, ports=tuple(ports)),
        st.lists(ENDPOINTS, max_size=4),
        st.lists(st.builds(SlicePort, st.sampled_from(["http", "x"]), st.sampled_from([None, 8080, 9090])), max_size=2),
    ),
    max_size=4,
)


@given(SLICES, st.randoms(use_true_random=False))
def test_the_order_of_slices_and_endpoints_is_of_no_consequence(slices: list[EndpointSlice], random: Random) -> None:
    expected = find_endpoints(slices, HTTP, anywhere=False)
    shuffled = list(slices)
    random.shuffle(shuffled)
    assert find_endpoints(shuffled, HTTP, anywhere=False) == expected
    assert list(expected.endpoints) == sorted(set(expected.endpoints))
    assert len({(one.address, one.port) for one in expected.endpoints}) == len(expected.endpoints)
