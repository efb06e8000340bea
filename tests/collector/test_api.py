"""Segment's tracking API: what is taken, what is refused, and what the log then holds."""

import base64
import concurrent.futures
import gzip
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from segue.clock import system_time
from segue.collector import MESSAGE_BYTES, REQUEST_BYTES
from segue.errors import BadInputError, BadSettingError
from segue.events import Judge
from segue.keys import create_key, revoke_key
from segue.settings import child_environment
from segue.valkey import connect, running
from tests.collector.conftest import Installation, start_collector
from tests.processes import stop
from tests.waiting import until

TRACK = {"type": "track", "event": "Clicked", "userId": "u1", "messageId": "m1", "properties": {"n": 1}}


def judged(lines: list[bytes]) -> list[str]:
    verdict = Judge([]).judge(b"\n".join(lines), latest=system_time() + timedelta(days=1))
    return [one.reason for one in verdict.refused]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("track", {"event": "Clicked", "userId": "u"}),
        ("identify", {"userId": "u", "traits": {"email": "a@example.com"}}),
        ("page", {"anonymousId": "a", "name": "Home"}),
        ("screen", {"anonymousId": "a", "name": "Home"}),
        ("group", {"userId": "u", "groupId": "g"}),
        ("alias", {"userId": "u", "previousId": "a"}),
    ],
)
def test_every_type_has_a_long_and_a_short_route(collector: Installation, client: httpx.Client, path, body) -> None:
    for route in (path, path[0]):
        answer = client.post(f"/v1/{route}", json=body)
        assert (answer.status_code, answer.json()) == (200, {"success": True})
    assert [one["type"] for one in collector.messages()] == [path, path]
    assert judged(collector.lines()) == []


@pytest.mark.parametrize("route", ["batch", "b", "import"])
def test_a_batch_becomes_a_line_for_each_message(collector: Installation, client: httpx.Client, route) -> None:
    batch = [TRACK | {"messageId": f"m{n}"} for n in range(50)]
    assert client.post(f"/v1/{route}", json={"batch": batch, "sentAt": "2026-01-01T00:00:00Z"}).status_code == 200
    found = collector.messages()
    assert [one["messageId"] for one in found] == [one["messageId"] for one in batch]
    assert {one["sentAt"] for one in found} == {"2026-01-01T00:00:00Z"}
    assert {one["_source"] for one in found} == {"web"}


def test_received_at_is_now_in_utc(collector: Installation, client: httpx.Client) -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    client.post("/v1/track", json=TRACK)
    stamp = collector.messages()[0]["receivedAt"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", stamp)
    assert before <= datetime.fromisoformat(stamp) <= datetime.now(UTC)


def test_what_the_client_wrote_is_kept_byte_for_byte(collector: Installation, client: httpx.Client) -> None:
    own = b'{ "event":"\\u00fc\xc3\xbc","userId":"u","x":1.10,"messageId":"m","big":12345678901234567890123}'
    client.post("/v1/batch", content=b'{"batch":[%b]}' % own)
    assert collector.lines()[0].endswith(own[2:])


def test_the_key_is_a_user_name_or_stands_in_the_body(collector: Installation) -> None:
    with httpx.Client(base_url=collector.url) as plain:
        assert plain.post("/v1/track", json=TRACK, auth=(collector.key, "")).status_code == 200
        bare = base64.b64encode(collector.key.encode()).decode()
        assert plain.post("/v1/track", json=TRACK, headers={"authorization": f"Basic {bare}"}).status_code == 200
        assert plain.post("/v1/track", json=TRACK | {"writeKey": collector.key}).status_code == 200
        assert plain.post("/v1/batch", json={"batch": [TRACK], "writeKey": collector.key}).status_code == 200
        for answer in (
            plain.post("/v1/track", json=TRACK),
            plain.post("/v1/track", json=TRACK | {"writeKey": "wrong"}),
            plain.post("/v1/track", json=TRACK, auth=("wrong", "")),
            plain.post("/v1/track", json=TRACK, headers={"authorization": "Basic %%%"}),
        ):
            assert answer.status_code == 401
            assert answer.json()["success"] is False
    assert len(collector.lines()) == 4


def test_a_write_key_never_reaches_the_log(collector: Installation) -> None:
    httpx.post(f"{collector.url}/v1/track", json=TRACK | {"writeKey": collector.key})
    httpx.post(f"{collector.url}/v1/batch", json={"batch": [TRACK | {"writeKey": "k"}], "writeKey": collector.key})
    assert len(collector.lines()) == 2
    assert not any(b"writeKey" in line or collector.key.encode() in line for line in collector.lines())


def test_keys_are_made_and_revoked_while_it_runs_and_kept_as_hashes(collector: Installation) -> None:
    key = create_key(collector.settings, "ios", as_of=system_time())
    with pytest.raises(BadInputError, match="already"):
        create_key(collector.settings, "ios", as_of=system_time())
    kept = (collector.settings.home / "keys" / "write_keys.json").read_text()
    assert key not in kept

    def status() -> int:
        return httpx.post(f"{collector.url}/v1/track", json=TRACK, auth=(key, "")).status_code

    until(lambda: status() == 200, seconds=5)
    assert collector.messages()[0]["_source"] == "ios"
    revoke_key(collector.settings, "ios", as_of=system_time())
    until(lambda: status() == 401, seconds=5)


def test_gzip_is_unpacked_also_when_nobody_says_so(collector: Installation, client: httpx.Client) -> None:
    body = gzip.compress(json.dumps({"batch": [TRACK]}).encode())
    assert client.post("/v1/batch", content=body, headers={"content-encoding": "gzip"}).status_code == 200
    assert client.post("/v1/batch", content=body).status_code == 200
    assert client.post("/v1/batch", content=body[:-9]).status_code == 400
    assert client.post("/v1/batch", content=body[:12] + b"\0\0" + body[14:]).status_code == 400
    assert client.post("/v1/batch", content=b"x", headers={"content-encoding": "br"}).status_code == 400
    assert len(collector.lines()) == 2


def test_a_packed_bomb_is_refused_without_being_unpacked(client: httpx.Client) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(300)) + packer.flush()
    assert len(bomb) < REQUEST_BYTES
    started = time.monotonic()
    assert client.post("/v1/batch", content=bomb).status_code == 400
    assert time.monotonic() - started < 1


def test_sizes_are_those_of_segment(collector: Installation, client: httpx.Client) -> None:
    def of_size(size: int) -> dict:
        return TRACK | {"properties": {"x": "y" * (size - len(json.dumps(TRACK | {"properties": {"x": ""}})))}}

    fits, large = (json.dumps(of_size(size)).encode() for size in (MESSAGE_BYTES, MESSAGE_BYTES + 1))
    assert len(fits) == MESSAGE_BYTES
    assert client.post("/v1/track", content=fits).status_code == 200
    assert client.post("/v1/batch", content=b'{"batch":[%b]}' % fits).status_code == 200
    for path, body in (("track", large), ("batch", b'{"batch":[%b]}' % large)):
        answer = client.post(f"/v1/{path}", content=body)
        assert answer.status_code == 400
        assert answer.json()["success"] is False
        assert "bytes" in answer.json()["message"]
    whole = b'{"batch":[%b]}' % b",".join([fits] * 15)
    assert client.post("/v1/batch", content=whole + b" " * (REQUEST_BYTES - len(whole))).status_code == 200
    assert client.post("/v1/batch", content=whole + b" " * (REQUEST_BYTES - len(whole) + 1)).status_code == 400


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"nan", b"[]", b"3", b'"x"', b'{"batch":3}', b"{}", b'{"batch":null}', b'{"batch":[{"a":"\xff"}]}',
     b'{"batch":[{"a":' + b"[" * 9000 + b"]" * 9000 + b"}]}", b'{"batch":[]} x', b'{"batch":[{"a":1,}]}'],
)  # fmt: skip
def test_what_is_no_json_is_refused(client: httpx.Client, body: bytes) -> None:
    answer = client.post("/v1/batch", content=body)
    assert answer.status_code == 400
    assert answer.json()["success"] is False


def test_a_broken_message_in_a_good_batch_reaches_the_log_for_the_quarantine(
    collector: Installation, client: httpx.Client
) -> None:
    batch = [TRACK, {"type": "odd", "userId": "u"}, 3, None, "x", {}, {"type": "track"}, TRACK | {"messageId": "m2"}]
    assert client.post("/v1/batch", json={"batch": batch}).status_code == 200
    assert len(collector.lines()) == len(batch)
    assert sorted(judged(collector.lines())) == ["broken_json"] * 3 + ["missing_ids", "unknown_type", "unknown_type"]


def test_half_an_emoji_costs_one_character_and_no_batch(collector: Installation, client: httpx.Client) -> None:
    body = b'{"batch":[{"type":"track","event":"cut \\ud83d","userId":"\\ud83d\\ude00 \\\\ud83d","messageId":"1"}]}'
    assert client.post("/v1/batch", content=body).status_code == 200
    assert collector.messages()[0]["event"] == "cut �"
    assert collector.messages()[0]["userId"] == "😀 \\ud83d"
    assert judged(collector.lines()) == []


def test_what_the_batch_says_holds_for_each_message_unless_it_says_otherwise(
    collector: Installation, client: httpx.Client
) -> None:
    shared = {"ip": "1.1.1.1", "library": {"name": "x", "version": "1"}}
    batch = [
        TRACK,
        TRACK | {"context": {"library": {"version": "2"}, "locale": "de"}, "sentAt": "2001-01-01T00:00:00Z"},
        TRACK | {"context": None, "integrations": {"All": True, "A": False}},
    ]
    body = {
        "batch": batch,
        "context": shared,
        "integrations": {"All": False, "B": True},
        "sentAt": "2026-01-01T00:00:00Z",
    }
    client.post("/v1/batch", json=body)
    first, second, third = collector.messages()
    assert first["context"] == shared
    assert second["context"] == {"ip": "1.1.1.1", "library": {"name": "x", "version": "2"}, "locale": "de"}
    assert third["context"] == shared
    assert [one["integrations"]["All"] for one in (first, second, third)] == [False, False, True]
    assert third["integrations"] == {"All": True, "A": False, "B": True}
    assert {one["sentAt"] for one in (first, second, third)} == {"2026-01-01T00:00:00Z"}


def test_nobody_can_pass_for_another_source_or_time(collector: Installation, client: httpx.Client) -> None:
    body = '{"type":"track","event":"X","userId":"u","_source":"ads","\\u005fsource":"b","receivedAt":"2001-01-01"}'
    client.post("/v1/track", content=body)
    line = collector.lines()[0]
    assert line.count(b"ource") == 1
    assert collector.messages()[0]["_source"] == "web"
    assert collector.messages()[0]["receivedAt"] > "2020"


def test_a_message_without_an_id_gets_one_that_a_resend_repeats(collector: Installation, client: httpx.Client) -> None:
    timed = {"event": "X", "userId": "u", "timestamp": "2026-01-01T00:00:00Z"}
    for message in (
        timed,
        timed,
        {"event": "X", "userId": "u"},
        {"event": "X", "userId": "u"},
        timed | {"messageId": ""},
    ):
        client.post("/v1/track", json=message)
    ids = [one["messageId"] for one in collector.messages()]
    assert ids[0] == ids[1]
    assert len(set(ids[1:4])) == 3
    assert all(ids)


def test_a_client_whose_clock_is_wrong_is_corrected(collector: Installation, client: httpx.Client) -> None:
    wrong = datetime.now(UTC) - timedelta(days=400)
    clicked = (wrong - timedelta(seconds=10)).isoformat()
    message = {"event": "X", "userId": "u", "timestamp": clicked}
    client.post("/v1/batch", json={"batch": [message | {"type": "track"}], "sentAt": wrong.isoformat()})
    client.post("/v1/track", json=message | {"sentAt": wrong.isoformat()})
    accepted = Judge([]).judge(b"\n".join(collector.lines()), latest=datetime.now(UTC) + timedelta(days=1)).accepted
    for row in accepted.to_pylist():
        assert abs((row["received_at"] - row["timestamp"]).total_seconds() - 10) < 1


def test_lines_of_a_printed_body_are_joined(collector: Installation, client: httpx.Client) -> None:
    client.post("/v1/batch", content=json.dumps({"batch": [TRACK, TRACK]}, indent=2).replace("\n", "\r\n"))
    assert len(collector.lines()) == 2
    assert collector.messages()[0]["event"] == "Clicked"


def test_a_browser_may_send_from_any_page(client: httpx.Client, collector: Installation) -> None:
    asked = {"origin": "https://shop.example", "access-control-request-method": "POST",
             "access-control-request-headers": "authorization,content-type"}  # fmt: skip
    answer = client.options("/v1/t", headers=asked)
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["access-control-allow-headers"] == "authorization,content-type"
    beacon = json.dumps({"batch": [TRACK], "writeKey": collector.key})
    answer = httpx.post(f"{collector.url}/v1/b", content=beacon, headers={"content-type": "text/plain;charset=UTF-8"})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "www-authenticate" not in httpx.post(f"{collector.url}/v1/t", json={}).headers
    for path in ("/metrics", "/health"):  # what is nobody's who passes by
        assert "access-control-allow-origin" not in httpx.get(f"{collector.url}{path}").headers


def test_what_analytics_js_measures_of_itself_is_taken_and_forgotten(collector: Installation) -> None:
    assert httpx.post(f"{collector.url}/v1/m", json={"series": []}).status_code == 200
    assert collector.lines() == []


def test_other_addresses_and_methods_are_told_apart(client: httpx.Client) -> None:
    assert client.get("/v1/track").status_code == 405
    assert client.post("/v1/nothing", json={}).status_code == 404
    assert client.get("/").status_code == 404
    assert client.get("/v1/projects/wrong/settings").status_code == 401


def test_health_and_metrics(collector: Installation, client: httpx.Client) -> None:
    client.post("/v1/track", json=TRACK)
    assert client.get("/health").json()["status"] == "ok"
    text = client.get("/metrics").text
    assert 'segue_collector_requests_total{route="/v1/track",status="200"}' in text
    assert 'segue_log_lag_entries{reader="engine"} 1.0' in text
    assert "segue_log_ceiling_bytes" in text


def test_a_full_log_is_a_503_that_says_when_to_come_back(collector: Installation, client: httpx.Client) -> None:
    totals = {"bytes": collector.settings.log_ceiling_bytes, "entries": 0}
    connect(collector.settings).hset("segue:{log}:totals", mapping=totals)
    answer = client.post("/v1/track", json=TRACK)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert client.get("/health").status_code == 503
    connect(collector.settings).flushall()
    assert client.post("/v1/track", json=TRACK).status_code == 200


def test_a_dead_log_is_a_503_until_it_is_back_and_nothing_acknowledged_is_lost(settings) -> None:
    acknowledged: list[str] = []
    with running(settings):
        key = create_key(settings, "web", as_of=system_time())
        process, url = start_collector(settings)
    try:
        with httpx.Client(base_url=url, auth=(key, ""), timeout=20) as client:
            assert client.post("/v1/track", json=TRACK).status_code == 503
            assert client.get("/health").status_code == 503
            for life in range(3):
                with running(settings):
                    pid = int(connect(settings).info("server")["process_id"])
                    for n in range(30):
                        if n == 20:
                            os.kill(pid, signal.SIGKILL)
                        answer = client.post("/v1/track", json=TRACK | {"messageId": f"{life}-{n}"})
                        if answer.status_code == 200:
                            acknowledged.append(f"{life}-{n}")
                        else:
                            assert answer.status_code == 503
                            assert int(answer.headers["retry-after"]) > 0
    finally:
        assert stop(process) == 0
    with running(settings):
        found = {one["messageId"] for one in Installation(settings, "", "", process).messages()}
    assert len(acknowledged) >= 60
    assert found >= set(acknowledged)


def test_nothing_acknowledged_is_lost_when_the_collector_is_killed(settings) -> None:
    acknowledged: set[str] = set()

    def send(url: str, key: str, worker: int) -> None:
        with httpx.Client(base_url=url, auth=(key, ""), timeout=5) as client:
            for n in range(10_000):
                try:
                    if client.post("/v1/track", json=TRACK | {"messageId": f"{worker}-{n}"}).status_code == 200:
                        acknowledged.add(f"{worker}-{n}")
                except httpx.HTTPError:
                    return

    with running(settings):
        key = create_key(settings, "web", as_of=system_time())
        process, url = start_collector(settings)
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            for worker in range(4):
                pool.submit(send, url, key, worker)
            try:
                until(lambda: len(acknowledged) > 100)
            finally:
                process.kill()
                process.wait()
        found = {one["messageId"] for one in Installation(settings, "", "", process).messages()}
    assert acknowledged <= found


def _raw(url: str) -> socket.socket:
    host, port = url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=30)


def test_a_gigabyte_is_refused_at_its_announcement(collector: Installation) -> None:
    with _raw(collector.url) as link:
        key = base64.b64encode(f"{collector.key}:".encode()).decode()
        link.sendall(
            b"POST /v1/batch HTTP/1.1\r\nHost: x\r\nAuthorization: Basic %b\r\nContent-Length: 1073741824\r\n\r\n"
            % key.encode()
        )
        assert link.recv(1000).startswith(b"HTTP/1.1 400")


def test_a_body_without_end_is_refused_where_it_passes_the_limit(collector: Installation) -> None:
    sent = 0
    with _raw(collector.url) as link:
        link.sendall(b"POST /v1/m HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            for _ in range(20_000):
                link.sendall(b"10000\r\n" + bytes(0x10000) + b"\r\n")
                sent += 0x10000
        except OSError:
            pass
    assert sent < 100 * REQUEST_BYTES


def test_clients_that_only_hold_connections_open_keep_nobody_out(collector: Installation, client: httpx.Client) -> None:
    slow = []
    try:
        for n in range(1500):
            link = _raw(collector.url)
            half_a_header = b"POST /v1/batch HTTP/1.1\r\nHost: x\r\nX-Slow"
            half_a_body = b"POST /v1/m HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"
            link.sendall(half_a_header if n % 2 else half_a_body)
            slow.append(link)
        started = time.monotonic()
        for _ in range(50):
            assert client.post("/v1/track", json=TRACK).status_code == 200
        assert time.monotonic() - started < 5
    finally:
        for link in slow:
            link.close()


def test_a_port_that_is_taken_is_told(collector: Installation) -> None:
    found = subprocess.run(
        [str(Path(sys.executable).parent / "segue"), "collector", "--port", collector.url.rpartition(":")[2]],
        env=child_environment({"SEGUE_HOME": str(collector.settings.home)}),
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert found.returncode == 1
    assert "cannot listen" in found.stderr


def test_a_home_that_cannot_be_written_is_told_with_the_fix(settings, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadSettingError, match="cannot be written: Not a directory") as told:
        create_key(settings.model_copy(update={"home": tmp_path / "file"}), "web", as_of=system_time())
    assert "SEGUE_HOME" in str(told.value)
