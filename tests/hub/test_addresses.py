"""The address of a client, from its connection and `X-Forwarded-For`."""

import pytest

from hub.addresses import UNKNOWN, block, client_address, parse_networks

PROXIES = parse_networks("10.0.0.0/8, 192.0.2.1, fd00::/8")
CLIENT = "203.0.113.7"


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        (CLIENT, "", CLIENT),
        (CLIENT, "198.51.100.1", CLIENT),  # sent by the client itself
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", CLIENT, CLIENT),
        ("10.0.0.1", f"198.51.100.1, {CLIENT}", CLIENT),
        ("10.0.0.1", f"198.51.100.1,{CLIENT} , 192.0.2.1,10.2.3.4", CLIENT),
        ("10.0.0.1", "10.0.0.9, 10.0.0.2", "10.0.0.9"),  # a client in the proxies' network
        ("10.0.0.1", f"{CLIENT}:4711", CLIENT),
        ("fd00::1", "[2001:db8::1]:443", "2001:db8::1"),
        ("fd00::1", "[2001:DB8:0::1]", "2001:db8::1"),
        ("fd00::1", "2001:db8::1", "2001:db8::1"),
        ("::ffff:10.0.0.1", CLIENT, CLIENT),
        (f"::ffff:{CLIENT}", "198.51.100.1", CLIENT),
        ("10.0.0.1", f"::ffff:{CLIENT}", CLIENT),
        ("fe80::1%eth0", "", "fe80::1"),
    ],
)
def test_the_first_address_from_the_right_that_is_not_trusted(
    peer: str, forwarded: str, address: str
) -> None:
    assert client_address(peer, forwarded, PROXIES) == address


@pytest.mark.parametrize("network", ["::ffff:10.0.0.0/104", "::ffff:10.0.0.1", "::ffff:0:0/96"])
@pytest.mark.parametrize("peer", ["10.0.0.1", "::ffff:10.0.0.1"])
def test_a_network_of_mapped_addresses_is_an_ipv4_network(network: str, peer: str) -> None:
    assert client_address(peer, CLIENT, parse_networks(network)) == CLIENT


@pytest.mark.parametrize(
    "entry",
    [
        "",
        " ",
        "unknown",
        "_hidden",
        "203.0.113.7.example.com",
        "256.0.0.1",
        "010.0.0.1",
        "203.0.113.7/8",
        "203.0.113.7:port",
        "[2001:db8::1",
        "2001:db8::1]",
        "[2001:db8::1]x",
        '"203.0.113.7"',
        "203.0.113.7 203.0.113.8",
        "\N{FULLWIDTH DIGIT ONE}.1.1.1",
        "fe80::1%eth0",
        "::::",
    ],
)
def test_an_entry_that_is_no_address_ends_the_search_at_its_proxy(entry: str) -> None:
    assert client_address("10.0.0.1", f"{CLIENT}, {entry}, 10.0.0.2", PROXIES) == "10.0.0.2"
    assert client_address("10.0.0.1", entry, PROXIES) == "10.0.0.1"


def test_the_header_counts_from_nobody_without_trusted_proxies() -> None:
    assert client_address("127.0.0.1", CLIENT, ()) == "127.0.0.1"


def test_a_long_header_costs_a_bounded_number_of_looks() -> None:
    assert (
        client_address("10.0.0.1", ",".join([CLIENT, *["10.0.0.2"] * 100]), PROXIES) == "10.0.0.2"
    )


@pytest.mark.parametrize("peer", ["", "/run/proxy.sock", "\0abstract"])
def test_a_peer_without_an_address_is_unknown_and_not_trusted(peer: str) -> None:
    assert client_address(peer, CLIENT, parse_networks("0.0.0.0/0, ::/0")) == UNKNOWN


def test_the_addresses_of_an_ipv6_network_of_64_bits_count_as_one() -> None:
    assert block("2001:db8::1") == block("2001:db8::ffff:0:0:2") == "2001:0db8:0000:0000::/64"
    assert block("2001:db8:0:1::1") != block("2001:db8::1")
    assert block(CLIENT) == CLIENT
    assert block(UNKNOWN) == UNKNOWN


@pytest.mark.parametrize("wrong", ["10.0.0.1/8", "localhost", "10.0.0.0/33", "5", "10.0.0.1:80"])
def test_a_list_with_anything_but_networks_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match=f"^{wrong}$"):
        parse_networks(f"10.0.0.1, {wrong}")
