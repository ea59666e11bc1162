"""Which proxy the environment names, and what its answers mean."""

import base64

import pytest

from towline.tunnel.errors import ProxyFailed
from towline.tunnel.proxy import MAX_REPLY_BYTES, Proxy, check_reply, parse_proxy, proxy_for

PROXY = Proxy("proxy.corp", 3128, "user:secret")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"https_proxy": "http://p:8080"}, "p:8080"),
        ({"HTTPS_PROXY": "http://p:8080"}, "p:8080"),
        ({"https_proxy": "http://lower", "HTTPS_PROXY": "http://upper"}, "lower:3128"),
        ({"all_proxy": "p:9"}, "p:9"),
        ({"http_proxy": "http://p"}, None),
        ({"https_proxy": "http://p", "no_proxy": "*"}, None),
        ({"https_proxy": "http://p", "no_proxy": "other, towline.example"}, None),
        ({"https_proxy": "http://p", "no_proxy": ".example"}, None),
        ({"https_proxy": "http://p", "no_proxy": "*.example"}, None),
        ({"https_proxy": "http://p", "no_proxy": "ple"}, "p:3128"),
        ({"https_proxy": "http://p", "no_proxy": "towline.example:443"}, None),
        ({"https_proxy": "http://p", "no_proxy": "towline.example:80"}, "p:3128"),
        ({"https_proxy": "http://p", "no_proxy": "  ,"}, "p:3128"),
    ],
)
def test_environment_names_the_proxy(environment, expected):
    found = proxy_for("https", "towline.example", 443, environment)
    assert (str(found) if found else None) == expected


@pytest.mark.parametrize(
    ("host", "exempt", "direct"),
    [
        ("10.1.2.3", "10.0.0.0/8", True),
        ("11.1.2.3", "10.0.0.0/8", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("::1", "::1", True),
        ("fd00::5", "fd00::/8", True),
    ],
)
def test_addresses_and_networks_are_exempt(host, exempt, direct):
    found = proxy_for("https", host, 443, {"https_proxy": "http://p", "no_proxy": exempt})
    assert (found is None) is direct


def test_credentials_are_decoded_and_never_shown():
    proxy = parse_proxy("http://us%40er:p%3Aw@proxy.corp:8080")
    assert proxy.credentials == "us@er:p:w"
    assert "p:w" not in repr(proxy)
    assert str(proxy) == "proxy.corp:8080"


def test_request_names_the_server_and_authorises():
    request = PROXY.connect_request("towline.example", 8443)
    assert request.startswith(b"CONNECT towline.example:8443 HTTP/1.1\r\nHost: towline.example:8443\r\n")
    assert base64.b64encode(b"user:secret") in request
    assert request.endswith(b"\r\n\r\n")


def test_request_brackets_an_ipv6_address():
    assert PROXY.connect_request("::1", 443).startswith(b"CONNECT [::1]:443 ")


@pytest.mark.parametrize("url", ["socks5://p:1", "https://p:1", "http://", "http://p:99999"])
def test_other_kinds_of_proxy_are_named_as_unsupported(url):
    with pytest.raises(ProxyFailed):
        parse_proxy(url)


def test_answer_is_read_when_it_is_whole():
    reply = b"HTTP/1.1 200 Connection established\r\nVia: squid\r\n\r\n"
    for cut in range(len(reply)):
        assert check_reply(reply[:cut], PROXY) is None
    assert check_reply(reply, PROXY) == b""


def test_missing_credentials_say_what_to_do():
    with pytest.raises(ProxyFailed, match="407") as failed:
        check_reply(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", PROXY)
    assert failed.value.status == 407
    assert "USER:PASSWORD" in failed.value.hint
    assert "secret" not in str(failed.value)


def test_refusal_is_shown_without_control_characters():
    with pytest.raises(ProxyFailed, match="503 Service") as failed:
        check_reply(b"HTTP/1.1 503 Service\x1b[31m Unavailable\r\n\r\n", PROXY)
    assert "\x1b" not in str(failed.value)


@pytest.mark.parametrize("reply", [b"SSH-2.0-OpenSSH\r\n\r\n", b"\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n"])
def test_other_protocols_are_named(reply):
    with pytest.raises(ProxyFailed, match="no HTTP proxy"):
        check_reply(reply, PROXY)


def test_answer_without_end_is_cut_off():
    with pytest.raises(ProxyFailed, match="does not end"):
        check_reply(b"x" * (MAX_REPLY_BYTES + 1), PROXY)
