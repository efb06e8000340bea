"""What a data engineer meets first: the asset graph in a real browser."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from orchestration.services import free_port
from orchestration.up import serving
from segue.settings import Settings

GROUPS = [
    "ingestion",
    "staging",
    "identity",
    "intermediate",
    "marts",
    "segments",
    "clusters",
    "kpis",
    "watch",
    "alerts",
    "realtime",
]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("browser")
    settings = Settings(home=home, _env_file=None)  # type: ignore[call-arg]
    # A port of its own: two that start at once must not meet.
    with serving(settings, port=free_port("127.0.0.1", 0)) as (address, _program):
        yield address


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 1800, "height": 1100})
    page.set_default_timeout(60_000)
    yield page
    page.close()


def test_the_asset_graph_opens_without_a_load_error(url: str, page: Page, tmp_path: Path) -> None:
    page.goto(f"{url}/asset-groups")
    for group in GROUPS:
        expect(page.get_by_text(group, exact=True).first).to_be_visible()
    page.screenshot(path=tmp_path / "asset-graph.png")
    page.goto(f"{url}/deployment/locations")
    expect(page.get_by_text("Loaded", exact=True).first).to_be_visible()
    assert page.get_by_text("Failed", exact=True).count() == 0


def test_sensors_and_schedules_are_on_by_default(url: str, page: Page) -> None:
    page.goto(f"{url}/automation")
    for name in (
        "new_files",
        "edited_sql",
        "anomalies",
        "failures",
        "realtime",
        "automation",
        "nightly_refresh",
        "hourly_audit",
        "nightly_maintenance",
    ):
        expect(page.get_by_text(name, exact=True).first).to_be_visible()
    # The other boxes select rows and are empty.
    expect(page.locator("input[type=checkbox]:checked")).to_have_count(9)


def test_the_page_of_a_segment_shows_its_description_and_sql(url: str, page: Page) -> None:
    page.goto(f"{url}/assets/segments/power_users?view=overview")
    expect(page.get_by_text("select", exact=False).first).to_be_visible()
    expect(page.get_by_text("dbt", exact=True).first).to_be_visible()
