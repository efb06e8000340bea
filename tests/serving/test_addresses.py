"""A webhook leaves the house by the front door only: nothing of our own network can be called by naming it."""

import asyncio
import socket

import pytest

from segue.clock import system_time
from segue.errors import BadInputError
from segue.serving import Attempt, Endpoint, Poster, Verdict, add_endpoint
from segue.serving.addresses import is_public
from segue.serving.post import judge
from segue.settings import Settings
from tests.serving.receiver import SECRET, receiving


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1",
        "255.255.255.255", "224.0.0.1", "192.0.2.1", "198.18.0.1",
        "::1", "::", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1",
        "::ffff:127.0.0.1", "::ffff:a9fe:a9fe", "::127.0.0.1", "2002:7f00:1::", "2002:a00:1::1",
        "64:ff9b::7f00:1", "64:ff9b::169.254.169.254", "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "fec0::1", "64:ff9b:1::7f00:1", "::ffff:0:7f00:1", "5f00::1", "168.63.129.16", "::ffff:168.63.129.16",
        "192.0.0.192", "192.0.0.9", "::ffff:192.0.0.192", "64:ff9b::c000:c0", "192.88.99.1", "3fff::1",
    ],
)  # fmt: skip
def test_an_address_inside_is_known_in_every_form(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.215.14", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]
)
def test_an_address_of_the_public_internet_is_one(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://:s3cret@host/", "http://ann:s3cret@host/", "http://@host/", "http://host\r\nx: y/", "http://host/\tx",
        "http://host/\x00", "http://host/\x7f", "ftp://host/", "file:///etc/passwd", "//host/", "http:///x",
        "http://host:0/", "http://host:99999/", "http://h\\@host/",
    ],
)  # fmt: skip
def test_bad_input_what_is_no_plain_address_is_refused_and_a_password_in_it_not_repeated(
    settings: Settings, url: str
) -> None:
    with pytest.raises(BadInputError) as said:
        add_endpoint(settings, Endpoint(name="crm", url=url, secret=SECRET))
    assert "s3cret" not in str(said.value)


def send(url: str) -> Attempt:
    async def run() -> Attempt:
        poster, now = Poster(allow_private=False), system_time()
        to = Endpoint(name="crm", url=url, secret=SECRET)
        try:
            return await poster.send(to, "test_1", "segment.test", {}, happened_at=now, now=now)
        finally:
            await poster.close()

    return asyncio.run(run())


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "127.1"]
)
def test_a_receiver_on_this_machine_is_not_called(host: str) -> None:
    with receiving() as receiver:
        port = receiver.url.rpartition(":")[2].partition("/")[0]
        attempt = send(f"http://{host}:{port}/hook")
    assert attempt.verdict is Verdict.AWAY
    assert "private address" in attempt.error
    assert "SEGUE_WEBHOOK_ALLOW_PRIVATE" in attempt.error
    assert receiver.requests == []


def test_a_name_with_a_public_and_a_private_address_is_not_called(monkeypatch: pytest.MonkeyPatch) -> None:
    def both(host: str, port: int, *_: object, **__: object) -> list[tuple]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in ("1.1.1.1", "127.0.0.1")]

    with receiving() as receiver:
        monkeypatch.setattr(socket, "getaddrinfo", both)
        attempt = send(receiver.url.replace("127.0.0.1", "rebound.example"))
    assert "private address" in attempt.error
    assert receiver.requests == []


def test_the_address_that_was_checked_is_the_one_that_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def rebound(host: str, port: int, *_: object, **__: object) -> list[tuple]:
        asked.append(host)
        address = "192.0.0.9" if len(asked) == 1 else "127.0.0.1"  # globally reachable; nobody listens there
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    with receiving() as receiver:
        monkeypatch.setattr(socket, "getaddrinfo", rebound)
        monkeypatch.setattr("segue.serving.post._STEP_SECONDS", 0.3)
        attempt = send(receiver.url.replace("127.0.0.1", "rebound.example"))
    assert attempt.verdict is Verdict.AWAY
    assert receiver.requests == []
    # A second look would have been of the address itself, or would have led home.
    assert asked.count("rebound.example") == 1


def test_an_answer_means_one_of_three_things() -> None:
    assert {status: judge(status, {}).verdict for status in (200, 204, 301, 400, 404, 408, 410, 425, 429, 500)} == {
        200: Verdict.TAKEN, 204: Verdict.TAKEN, 301: Verdict.AWAY, 400: Verdict.REFUSED, 404: Verdict.REFUSED,
        408: Verdict.AWAY, 410: Verdict.REFUSED, 425: Verdict.AWAY, 429: Verdict.AWAY, 500: Verdict.AWAY,
    }  # fmt: skip
    assert judge(429, {b"retry-after": b"30"}).retry_after_seconds == 30
    assert judge(429, {b"retry-after": b"9999999"}).retry_after_seconds == 3600


def test_a_secret_that_is_none_is_told_of_and_nothing_is_sent() -> None:
    to = Endpoint(name="crm", url="http://127.0.0.1:9/", secret_env="NO_SUCH_SECRET")

    async def run() -> Attempt:
        now = system_time()
        return await Poster(allow_private=True).send(to, "a", "b", {}, happened_at=now, now=now)

    assert "set NO_SUCH_SECRET" in asyncio.run(run()).error
