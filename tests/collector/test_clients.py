"""Clients as their users install them, with another host and nothing else."""

import functools
import http.server
import logging
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser

from segue.clock import system_time
from segue.events import Judge
from segue.keys import create_key
from segue.valkey import running
from tests.collector.conftest import Installation, start_collector
from tests.processes import stop
from tests.waiting import until

CLIENTS = Path(__file__).parent / "clients"

PAGE = """<!doctype html><meta charset="utf-8"><script src="/index.js"></script><script>
const analytics = AnalyticsNext.AnalyticsBrowser.load({writeKey: "@key", cdnURL: "@url"}, @options)
analytics.identify("b1", {email: "b1@example.com", name: "Zoë"})
analytics.track("Product Viewed", {price: 1.5})
analytics.page("Home")
analytics.screen("Start")
analytics.group("g1", {plan: "pro"})
analytics.alias("b2", "b1")
</script>"""


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The npm clients, installed as their lock says."""
    npm = shutil.which("npm")
    assert npm is not None, "npm is missing: `make test` brings it; else install Node.js"
    folder = tmp_path_factory.mktemp("clients")
    for path in CLIENTS.iterdir():
        if path.is_file():
            shutil.copy(path, folder)
    done = subprocess.run(
        [npm, "ci", "--no-audit", "--no-fund"], cwd=folder, capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stderr
    return folder


def wait_for(found: Callable[[], list[Any]], count: int, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while len(found()) < count and time.monotonic() < deadline:
        time.sleep(0.05)


def check(collector: Installation, types: set[str], person: str) -> list[dict]:
    """Every type arrived, once, clean, at the right time."""
    wait_for(collector.lines, len(types))
    messages = collector.messages()
    assert {one["type"] for one in messages} == types
    assert len({one["messageId"] for one in messages}) == len(messages)
    assert all(one["_source"] == "web" for one in messages)
    assert not any("writeKey" in one for one in messages)
    verdict = Judge([]).judge(b"\n".join(collector.lines()), latest=datetime.now(UTC) + timedelta(days=1))
    assert verdict.refused == ()
    rows = verdict.accepted.to_pylist()
    assert {row["user_id"] for row in rows} >= {person}
    now = datetime.now(UTC).replace(tzinfo=None)
    assert all(now - timedelta(seconds=60) < row["timestamp"] <= row["received_at"] <= now for row in rows)
    assert all(row["original_timestamp"] is not None and row["sent_at"] is not None for row in rows)
    return messages


ALL = {"identify", "track", "page", "screen", "group", "alias"}


@pytest.mark.parametrize("gzip", [False, True])
def test_segment_python(collector: Installation, gzip: bool) -> None:
    from segment.analytics.client import Client

    errors: list[Any] = []
    client = Client(collector.key, host=collector.url, gzip=gzip, on_error=lambda *found: errors.append(found))
    client.identify("p1", traits={"email": "p1@example.com", "name": "Zoë"})
    client.track("p1", "Product Viewed", {"price": 1.5})
    client.page("p1", None, "Home")
    client.screen("p1", None, "Start")
    client.group("p1", "g1", {"plan": "pro"})
    client.alias("a1", "p1")
    client.shutdown()
    assert errors == []
    found = check(collector, ALL, "p1")
    assert next(one for one in found if one["type"] == "identify")["traits"]["name"] == "Zoë"


@pytest.mark.parametrize("gzip", [False, True])
def test_rudder_python(collector: Installation, gzip: bool) -> None:
    from rudderstack.analytics.client import Client

    errors: list[Any] = []
    client = Client(collector.key, host=collector.url, gzip=gzip, on_error=lambda *found: errors.append(found))
    client.identify("r1", traits={"email": "r1@example.com"})
    client.track("r1", "Product Viewed", {"price": 1.5})
    client.page("r1", None, "Home")
    client.screen("r1", None, "Start")
    client.group("r1", "g1", {"plan": "pro"})
    client.alias("a1", "r1")
    client.flush()
    client.join()
    assert errors == []
    check(collector, ALL, "r1")


def test_segment_node(collector: Installation, packages: Path) -> None:
    command = ["node", "send.mjs", collector.url, collector.key]
    done = subprocess.run(command, cwd=packages, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    check(collector, ALL, "n1")


@pytest.fixture
def page_address(packages: Path, collector: Installation) -> Iterator[Callable[[str], str]]:
    """Serves a page that has the browser library on another origin than the collector's."""
    folder = packages / "node_modules" / "@segment" / "analytics-next" / "dist" / "umd"
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()

        def write(options: str) -> str:
            text = PAGE.replace("@key", collector.key).replace("@url", collector.url).replace("@options", options)
            (folder / "page.html").write_text(text)
            return f"http://127.0.0.1:{server.server_port}/page.html"

        yield write
        server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.mark.parametrize(
    "strategy", ["standard", "batching"], ids=["a request for each event", "batches, the last when the page is left"]
)
def test_analytics_js_in_a_browser(
    collector: Installation, page_address: Callable[[str], str], browser: Browser, strategy: str
) -> None:
    config = "{size: 100, timeout: 60000}" if strategy == "batching" else "{}"
    options = f"{{integrations: {{'Segment.io': {{deliveryStrategy: {{strategy: '{strategy}', config: {config}}}}}}}}}"
    troubles: list[str] = []
    with browser.new_page() as page:
        page.on("console", lambda one: troubles.append(one.text) if one.type == "error" else None)
        page.on("requestfailed", lambda one: troubles.append(f"{one.url}: {one.failure}"))
        page.goto(page_address(options))
        if strategy == "batching":
            page.wait_for_timeout(700)
            assert collector.lines() == []
            page.goto("about:blank")
        wait_for(lambda: collector.lines() or [], 6)
        found = check(collector, ALL, "b1")
    assert [one for one in troubles if "favicon" not in one and "Failed to load resource" not in one] == []
    assert all(one["anonymousId"] for one in found)


@pytest.mark.parametrize("sender", ["python", "node"])
def test_clients_send_again_what_was_refused_while_the_log_was_away(settings, sender: str, request) -> None:
    folder = request.getfixturevalue("packages") if sender == "node" else None
    logging.getLogger("segment").setLevel(logging.CRITICAL)
    with running(settings):
        key = create_key(settings, "web", as_of=system_time())
        process, url = start_collector(settings)
    try:
        if sender == "node":
            sending = subprocess.Popen(["node", "send.mjs", url, key, "100"], cwd=folder)
        else:
            from segment.analytics.client import Client

            errors: list[Any] = []
            client = Client(key, host=url, on_error=lambda *found: errors.append(found))
            for n in range(100):
                client.track("p1", "Counted", {"n": n})
        until(lambda: 'status="503"' in httpx.get(f"{url}/metrics", timeout=30).text)
        with running(settings):
            if sender == "node":
                assert sending.wait(60) == 0
            else:
                client.shutdown()
                assert errors == []
            counted = [
                one for one in Installation(settings, url, key, process).messages() if one.get("event") == "Counted"
            ]
            assert sorted(one["properties"]["n"] for one in counted) == list(range(100))
    finally:
        stop(process)
