"""A disk that is full, and a network that is cut: what was acknowledged stays, and the rest is told apart."""

import asyncio
import contextlib
import functools
import resource
import socket
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest

from segue.log import LogDownError, open_log
from segue.log.stream import StreamLog
from segue.settings import Settings
from segue.valkey import connect, connect_async, is_running, running, serve_command, socket_path

FILE_BYTES = 300_000


def append(log: StreamLog, payload: bytes) -> None:
    asyncio.run(log.append([payload]))


def everything(log: StreamLog) -> list[bytes]:
    return b"".join(e.payload for e in log.read("", limit_bytes=1 << 30, wait_seconds=0)).splitlines()


@contextlib.contextmanager
def on_a_small_disk(settings: Settings) -> Iterator["subprocess.Popen[bytes]"]:
    """The home's server, whose files cannot grow beyond a size: to it, the disk is full then."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES))

    server = subprocess.Popen(serve_command(settings), preexec_fn=limit, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        while not is_running(settings):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield server
    finally:
        server.kill()
        server.wait()


def test_a_full_disk_keeps_what_was_acknowledged_and_refuses_the_rest(settings: Settings) -> None:
    log, taken = open_log(settings), 0
    with on_a_small_disk(settings) as server:
        with pytest.raises(LogDownError) as error:
            for _ in range(1_000):
                append(log, b"%06d %s\n" % (taken, b"x" * 1_000))
                taken += 1
        assert error.value.retry_after_seconds > 0
        assert server.wait(20) != 0, "a server that cannot write what it acknowledges must not go on"
    assert 100 < taken < FILE_BYTES // 1_000
    with on_a_small_disk(settings):  # still full: what is there is read, and nothing is taken
        numbers = [int(line[:6]) for line in everything(log)]
        assert numbers == list(range(taken))
        with pytest.raises(LogDownError):
            append(log, b"x" * FILE_BYTES + b"\n")
    with running(settings):  # room again
        append(log, b"%06d\n" % taken)
        assert [int(line[:6]) for line in everything(log)] == list(range(taken + 1))
        assert log.status().entries == taken + 1


class Cable:
    """TCP in front of the server of a home. It can be cut, in the midst of an answer too, or hold everything back."""

    def __init__(self, settings: Settings) -> None:
        self._server = str(socket_path(settings))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.answers = -1  # bytes of answers that still get through before all links are cut; -1: no end
        self._flows = threading.Event()
        self._flows.set()
        self._links: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        for link in self._links:
            with contextlib.suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)
        self._links.clear()

    def hold(self) -> None:
        self._flows.clear()

    def let_go(self) -> None:
        self._flows.set()

    def close(self) -> None:
        self._listener.close()
        self.let_go()
        self.cut()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect(self._server)
                self._links += (near, far)
                threading.Thread(target=self._pass_on, args=(near, far, False), daemon=True).start()
                threading.Thread(target=self._pass_on, args=(far, near, True), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, is_answer: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                self._flows.wait()
                if is_answer and self.answers >= 0:
                    data, self.answers = data[: self.answers], max(0, self.answers - len(data))
                    if not self.answers:
                        target.sendall(data)
                        self.answers = -1
                        self.cut()
                        return
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def cable(served: Settings) -> Iterator[Cable]:
    connect(served).flushall()
    made = Cable(served)
    yield made
    made.close()


def over(served: Settings, cable: Cable) -> StreamLog:
    return open_log(served.model_copy(update={"valkey_url": f"redis://127.0.0.1:{cable.port}"}))


def test_what_is_sent_again_after_a_cut_is_all_there_and_what_was_acknowledged_is_there_once(
    served: Settings, cable: Cable
) -> None:
    log = over(served, cable)
    acknowledged, unsure = [], []

    async def send() -> None:
        for number in range(60):
            # The answer is cut after so many bytes: before it, in the midst of it, or (":1\r\n" is four) not at all.
            cable.answers = number % 6 if number % 3 == 0 else -1
            for _ in range(3):
                try:
                    await log.append([b"%d\n" % number])
                    acknowledged.append(number)
                    break
                except LogDownError:
                    unsure.append(number)
                    cable.answers = -1

    asyncio.run(send())
    found = [int(line) for line in everything(open_log(served))]
    assert acknowledged == list(range(60))
    assert unsure, "something was cut"
    assert set(found) == set(range(60))
    assert all(found.count(number) == 1 for number in set(range(60)) - set(unsure))


def test_a_network_that_holds_everything_back_is_told_and_recovers(
    served: Settings, cable: Cable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segue.log.stream.connect_async", functools.partial(connect_async, timeout_seconds=0.3))
    log = over(served, cable)

    async def send() -> None:
        await log.append([b"1\n"])
        cable.hold()
        with pytest.raises(LogDownError):
            await asyncio.wait_for(log.append([b"2\n"]), 30)
        cable.let_go()
        await log.append([b"3\n"])

    asyncio.run(send())
    found = [int(line) for line in everything(open_log(served))]
    assert {1, 3} <= set(found), "whether the second is there, nobody could know"
