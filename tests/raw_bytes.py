"""Requests as no client sends them."""

import random
import socket


def send_broken(url: str, request: bytes, count: int) -> None:
    """Send noise, and the request with some of its bytes changed, each on a connection of its own.

    Raises:
        AssertionError: when one is answered with a 5xx.
    """
    chance = random.Random(3)
    host, port = url.removeprefix("http://").split(":")
    for _ in range(count):
        kind = chance.randrange(3)
        if kind == 0:
            text = chance.randbytes(chance.randrange(1, 3000))
        else:
            at = chance.randrange(len(request))
            text = request[:at] + chance.randbytes(kind) + request[at + chance.randrange(9) :]
        with socket.create_connection((host, int(port)), timeout=20) as link:
            try:
                link.sendall(text)
                link.shutdown(socket.SHUT_WR)
                while found := link.recv(4096):
                    assert not found.startswith(b"HTTP/1.1 5"), text
            except (ConnectionError, TimeoutError):
                pass
