"""Origins and hosts are parsed and compared."""

import pytest

from hub.origins import Origins, host_name, parse_hosts, parse_origins

# A host of each kind that an Origin can name, and one that only resembles it.
LISTED = "https://app.example.com,http://localhost:3000,http://[::1]:8080"
BELOW = "https://*.example.com,http://*.example.org:8080"


@pytest.mark.parametrize(
    "origin",
    [
        "https://app.example.com",
        "HTTPS://App.Example.com",
        "https://app.example.com:443",
        "https://app.example.com.",
        "http://localhost:3000",
        "http://[::1]:8080",
        "http://[0:0:0:0:0:0:0:1]:8080",
    ],
)
def test_a_listed_origin_is_allowed_in_every_spelling(origin: str) -> None:
    assert parse_origins(LISTED).allow(origin, "other")


@pytest.mark.parametrize(
    "origin",
    [
        "",
        "null",
        "*",
        "same",
        "http://app.example.com",
        "https://app.example.com:8443",
        "https://app.example.com.evil.example",
        "https://evil.example/https://app.example.com",
        "https://user@app.example.com",
        "https://app.example.com/",
        "https://app.example.com\n",
        "https://app.example.com, https://app.example.com",
        "https://app.example.com..",
        "https://\u017f.example",
        "https://\udcff",
        "http://[::2]:8080",
        "http://[::1:8080",
        "http://[:::]:8080",
        "http://localhost",
        "http://localhost:99999",
        "https://app.example.com:0",
        "localhost:3000",
        "file://",
        "chrome-extension://abcdef",
    ],
)
def test_an_origin_that_is_not_listed_is_refused(origin: str) -> None:
    assert not parse_origins(LISTED).allow(origin, "other")


@pytest.mark.parametrize(
    "origin",
    [
        "https://a.example.com",
        "https://a.b.c.example.com",
        "https://A.Example.com:443",
        "http://a.example.org:8080",
    ],
)
def test_a_wildcard_allows_sub_domains_of_any_depth(origin: str) -> None:
    assert parse_origins(BELOW).allow(origin, "other")


@pytest.mark.parametrize(
    "origin",
    [
        "https://example.com",
        "https://evilexample.com",
        "https://.example.com",
        "https://a..example.com",
        "http://a.example.com",
        "https://a.example.com:444",
        "https://a.example.com.evil.example",
        "https://evil.example#.example.com",
        "https://*.example.com",
        "http://a.example.org",
    ],
)
def test_a_wildcard_allows_only_sub_domains(origin: str) -> None:
    assert not parse_origins(BELOW).allow(origin, "other")


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://app.test", "app.test"),
        ("https://app.test", "app.test"),  # TLS ends at a proxy
        ("https://app.test", "app.test:443"),
        ("http://app.test:80", "App.Test"),
        ("https://app.test:8443", "app.test:8443"),
        ("http://app.test:8443", "app.test:8443"),
        ("http://app.test", "app.test."),
        ("http://app.test", "app.test:"),
        ("http://[::1]:8080", "[::1]:8080"),
        ("http://127.0.0.1:8080", "127.0.0.1:8080"),
    ],
)
def test_same_allows_the_host_and_port_of_the_request(origin: str, host: str) -> None:
    assert parse_origins("same").allow(origin, host)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://app.test:8080", "app.test"),
        ("http://app.test", "app.test:8080"),
        ("https://app.test", "app.test:80"),
        ("http://other.test", "app.test"),
        ("http://app.test.evil.example", "app.test"),
        ("null", "null"),
        ("", ""),
        ("http://app.test", ""),
        ("http://app.test", "app.test, app.test"),
        ("http://app.test", "user@app.test"),
    ],
)
def test_same_refuses_other_hosts_and_ports(origin: str, host: str) -> None:
    assert not parse_origins("same").allow(origin, host)


@pytest.mark.parametrize("origin", ["null", "", "https://anywhere.example", "file://"])
def test_a_star_allows_every_origin(origin: str) -> None:
    assert parse_origins("https://app.example.com,*").allow(origin, "other")
    assert Origins().allow(origin, "other") is False


@pytest.mark.parametrize(
    "wrong",
    [
        "example.com",
        "https://a.example/path",
        "https://a.example?x",
        "https://user@a.example",
        "https://a.*.example",
        "https://*",
        "https://*example.com",
        "*.example.com",
        "null",
        "https://b\u00fccher.example",
        "https://a.example:port",
        "https://a.example:65536",
        "",
    ],
)
def test_a_malformed_origin_cannot_be_listed(wrong: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  the next line does
        parse_origins(f"same,{wrong}")
    assert str(caught.value) == wrong


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("app.test", "app.test"),
        ("APP.test:8080", "app.test"),
        ("app.test.:8080", "app.test"),
        ("app_1", "app_1"),
        ("127.0.0.1:80", "127.0.0.1"),
        ("[::1]:8080", "[::1]"),
        ("[0:0::1]", "[::1]"),
        ("", None),
        (":8080", None),
        ("::1", None),
        ("[::1", None),
        ("[::g]", None),
        ("a b", None),
        ("a,b", None),
        ("app.test:8080:1", None),
        ("app..test", None),
        ("\udcff", None),
    ],
)
def test_a_host_name_has_no_port(host: str, name: str | None) -> None:
    assert host_name(host) == name


def test_hosts_are_a_list_of_names() -> None:
    assert parse_hosts("App.test, 10.0.0.1,[::1]") == {"app.test", "10.0.0.1", "[::1]"}


@pytest.mark.parametrize(
    "wrong", ["", "a:80", "a:", "[::1]:80", "http://a", "*", "*.a.test", "::1", "a/b"]
)
def test_a_malformed_host_name_cannot_be_listed(wrong: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  the next line does
        parse_hosts(f"a,{wrong}")
    assert str(caught.value) == wrong
