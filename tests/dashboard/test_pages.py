"""What stands on the pages, and what they do when there is nothing or something is wrong."""

from datetime import UTC, datetime

import pytest
from starlette.testclient import TestClient

from segue.dashboard import make_app
from segue.settings import Settings
from segue.warehouse import Warehouse
from segue.watch import incidents
from tests.dashboard.conftest import HOSTILE, NOW, fill

PAGES = ["/", "/incidents", "/segments", "/retention", "/retention?by=day", "/funnel", "/health"]


@pytest.mark.parametrize("path", [*PAGES, "/kpi/sessions", "/kpi/segment_size?slice=segment=power_users&days=28"])
def test_every_page_is_there_complete_and_without_scripts(client, path):
    answer = client.get(path)
    assert answer.status_code == 200
    assert answer.text.endswith("</footer></body></html>")
    assert "Whole days up to Sat 28 Feb 2026" in answer.text
    assert "<script" not in answer.text
    assert "style=" not in answer.text, "the policy forbids it"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")


def test_filters_stand_in_the_address_and_in_the_links(client):
    text = client.get("/?slice=platform=web&days=28").text
    assert "KPIs of platform web" in text
    assert 'value="platform=web" selected' in text
    assert '/kpi/sessions?slice=platform%3Dweb&amp;days=28"' in text


def test_what_comes_from_the_data_is_text(client):
    for path in ("/", "/kpi/sessions"):
        text = client.get(path, params={"slice": HOSTILE}).text
        assert "<script>" not in text
        assert "&lt;script&gt;" in text


def test_an_alert_leads_to_exactly_its_chart(client, incident):
    text = client.get(f"/incident/{incident}").text
    assert "Sessions fell to 104 on Thu 19 Feb 2026" in text
    assert text.count('rect class="mark high"') == 2, "marked in the wide and in the narrow chart"
    assert "Sessions, platform web" in text


def test_the_overview_says_what_is_expected_and_what_is_not_judged(client):
    text = client.get("/").text
    assert "expected 230" in text
    assert "not judged" in text
    assert "Twelve days" in client.get("/health").text


def test_segments_show_sizes_moves_and_overlap_in_numbers(client):
    text = client.get("/segments").text
    assert "<td>low</td><td>high</td><td class=number>9</td>" in text
    assert ">33 %</td>" in text, "3 of the 9 in high are power users"
    assert ">100 %</td>" in text


@pytest.mark.parametrize("path", ["/kpi/nope", "/kpi/sessions?slice=nobody", "/incident/nope", "/nope"])
def test_what_is_not_there_is_said_with_a_way_on(client, path):
    answer = client.get(path)
    assert answer.status_code == 404
    assert 'href="/"' in answer.text or "href=/incidents" in answer.text


def test_an_installation_without_anything_says_what_to_do(settings):
    with TestClient(make_app(settings, lambda: NOW)) as client:
        for path in PAGES:
            answer = client.get(path)
            assert answer.status_code == 200, path
        assert "segue refresh" in client.get("/").text
        assert client.get("/healthz").json() == {"status": "ok"}


def test_a_warehouse_that_cannot_be_read_is_a_page_too(settings):
    settings.warehouse_home.mkdir(parents=True)
    (settings.warehouse_home / "catalog.sqlite").write_bytes(b"nonsense" * 1000)
    with TestClient(make_app(settings, lambda: NOW)) as client:
        answer = client.get("/")
    assert answer.status_code == 503
    assert "Try again" in answer.text


def test_a_name_of_elsewhere_is_refused(client):
    assert client.get("/", headers={"host": "evil.example"}).status_code == 400


def test_what_a_reader_says_counts_only_from_a_page_of_this_site(tmp_path):
    settings = Settings(home=tmp_path, _env_file=None)  # type: ignore[call-arg]
    fill(Warehouse(settings))
    with TestClient(make_app(settings, lambda: datetime(2026, 3, 1, tzinfo=UTC))) as client:
        ident = client.get("/incidents").text.split('href="/incident/')[1].split('"')[0]
        for headers in ({"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}):
            assert client.post(f"/incident/{ident}/dismiss", headers=headers).status_code == 403
        assert "I am on it" in client.get(f"/incident/{ident}").text
        client.post(f"/incident/{ident}/acknowledge", headers={"origin": "http://testserver"})
        assert "I am on it" not in client.get(f"/incident/{ident}").text
        assert "Dismissed" in client.post(f"/incident/{ident}/dismiss", headers={"origin": "http://testserver"}).text
    with Warehouse(settings).read() as con:
        assert [i.status for i in incidents(con)] == ["dismissed"]


def test_a_page_is_never_older_than_the_warehouse(tmp_path):
    settings = Settings(home=tmp_path, _env_file=None)  # type: ignore[call-arg]
    fill(Warehouse(settings))
    with TestClient(make_app(settings, lambda: NOW)) as client:
        assert "expected 230" in client.get("/").text
        with Warehouse(settings).write("test") as con:
            con.execute("update watch.forecasts set expected = 999")
        assert "expected 999" in client.get("/").text
