"""Takes the pictures of the README and the pages from a running demo, so that they show what there is.

Needs Chromium. Starts `segue demo`, sends it a minute of live events, and looks at it as a person would.

    make pictures
"""

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from playwright.sync_api import Browser, Page, sync_playwright

from tests.chromium import launch

IMAGES = Path(__file__).parent / "images"
PAGES = ("Dagster UI", "dashboard", "live page", "collector", "write key")
LIVE_SECONDS = 40
EVENTS = (
    {"event": "Search Performed", "properties": {"query": "boots", "result_count": 12}},
    {"event": "Signed In", "properties": {"method": "email"}},
    {"event": "Premium Feature Used", "properties": {"feature": "export"}},
)


def main() -> None:
    with demo() as (found, home):
        sending = threading.Thread(target=send, args=(found["collector"], found["write key"]), daemon=True)
        sending.start()
        with sync_playwright() as playwright:
            browser = launch(playwright)
            live_page(browser, found["live page"])
            asset_graph(browser, found["Dagster UI"])
            dashboard(browser, found["dashboard"])
            alert(browser, home)
            browser.close()


@contextmanager
def demo() -> "Iterator[tuple[dict[str, str], Path]]":
    """The addresses and keys that the demo prints, and its home."""
    command = [str(Path(sys.executable).with_name("segue")), "demo"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            found: dict[str, str] = {}
            home = Path()
            assert process.stdout is not None
            for line in process.stdout:
                print(line, end="", flush=True)
                if export := re.match(r"\s+export SEGUE_HOME=(.+)", line):
                    home = Path(export[1])
                if named := re.match(rf"\s+({'|'.join(PAGES)})\s+(\S+)", line):
                    found[named[1]] = named[2]
                if "Ctrl-C" in line:
                    break
            yield found, home
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(90)


def send(collector: str, key: str) -> None:
    """Events of some forty people, about thirty a second."""
    end = time.monotonic() + LIVE_SECONDS
    n = 0
    with httpx.Client(base_url=collector, auth=(key, "")) as client:
        while time.monotonic() < end:
            event = {"userId": f"visitor-{n * 7 % 41}", **EVENTS[n % len(EVENTS)]}
            client.post("/v1/track", json=event).raise_for_status()
            n += 1
            time.sleep(0.03)


def asset_graph(browser: Browser, url: str) -> None:
    with page_of(browser, 1700, 950) as page:
        page.goto(f"{url}/asset-groups")
        page.get_by_text("segments", exact=True).first.wait_for()
        page.wait_for_timeout(4000)  # it is laid out by a worker
        page.screenshot(path=IMAGES / "asset-graph.png")


def dashboard(browser: Browser, url: str) -> None:
    with page_of(browser, 1200, 900) as page:
        page.goto(url)
        page.wait_for_load_state("networkidle")
        page.screenshot(path=IMAGES / "dashboard.png")


def live_page(browser: Browser, url: str) -> None:
    with page_of(browser, 1200, 800) as page:
        page.goto(url)
        page.wait_for_timeout(LIVE_SECONDS * 900)  # so that there is something to see
        page.screenshot(path=IMAGES / "live.png")


def alert(browser: Browser, home: Path) -> None:
    """The preview of the last incident with a chart that was told of."""
    every = sorted((home / "alerts").rglob("*.html"), key=lambda file: file.stat().st_mtime)
    previews = [file for file in every if "<img" in file.read_text()]
    with page_of(browser, 860, 1500) as page:  # the mail goes on below
        page.goto(previews[-1].as_uri())
        page.screenshot(path=IMAGES / "alert.png")


@contextmanager
def page_of(browser: Browser, width: int, height: int) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": width, "height": height})
    page.set_default_timeout(60_000)
    yield page
    page.close()


if __name__ == "__main__":
    main()
