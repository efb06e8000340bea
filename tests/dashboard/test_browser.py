"""The dashboard in a real browser: on a phone, by keyboard, with nothing refused by its own policy."""

import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import uvicorn
from playwright.sync_api import Browser, Page

from segue.dashboard import make_app
from segue.settings import Settings

PAGES = [
    "/",
    "/kpi/sessions",
    "/incidents",
    "/segments",
    "/clusters",
    "/scores",
    "/retention",
    "/funnel",
    "/health",
]


@pytest.fixture(scope="module")
def url(site: Settings) -> Iterator[str]:
    listener = socket.create_server(("127.0.0.1", 0))
    app = make_app(site, lambda: datetime(2026, 3, 1, tzinfo=UTC))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def complaints() -> list[str]:
    return []


@pytest.fixture
def page(browser: Browser, complaints: list[str]) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.set_default_timeout(30_000)
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    page.close()
    assert complaints == []


@pytest.mark.parametrize("path", PAGES)
def test_no_page_is_wider_than_a_phone(url: str, page: Page, path: str) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto(url + path)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    if path == "/kpi/sessions":
        assert page.locator("svg.narrow").is_visible()
        assert not page.locator("svg.wide").is_visible()


def test_by_keyboard_from_the_overview_to_the_chart_of_an_incident(url: str, page: Page) -> None:
    page.goto(url)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.get_by_label("Who").select_option("platform=web")
    page.get_by_role("button", name="Show").press("Enter")
    page.wait_for_url("**slice=platform%3Dweb**")
    page.get_by_role("link", name="Sessions").first.press("Enter")
    page.wait_for_url("**/kpi/sessions?slice=platform%3Dweb**")
    page.locator("svg.wide a").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/incident/*")
    assert "fell to 104" in page.locator("main").inner_text()


def test_by_keyboard_from_a_cluster_on_the_map_to_what_it_is_like(url: str, page: Page) -> None:
    page.goto(f"{url}/clusters")
    page.get_by_label("Found so that").select_option("hdbscan")
    page.get_by_role("button", name="Show").press("Enter")
    page.wait_for_url("**method=hdbscan**")
    page.locator(".key a").first.press("Enter")
    page.wait_for_url("**#c-0")
    assert "3.0× the usual basket" in page.locator("#c-0").inner_text()
    assert page.locator("svg.map").get_attribute("aria-label").startswith("Map of 200 people")


def test_what_cannot_be_seen_is_said(url: str, page: Page) -> None:
    page.goto(f"{url}/kpi/sessions")
    assert page.locator("svg.wide").get_attribute("aria-label").startswith("Sessions, 90 days up to")
    assert page.locator("html").get_attribute("lang") == "en"
    assert page.locator("h1").count() == 1
    page.get_by_text("The numbers").click()
    assert page.locator("details table tbody tr").count() == 90
