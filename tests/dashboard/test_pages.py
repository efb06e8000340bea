"""What stands on the pages, and what they do when there is nothing or something is wrong."""

from datetime import UTC, datetime

import pytest
from starlette.testclient import TestClient

from segue.dashboard import make_app
from segue.dashboard.clusters import _colours
from segue.dashboard.incident_pages import incident_line, incident_page
from segue.dashboard.pages import segments_page
from segue.dashboard.read import Flows
from segue.settings import Settings
from segue.warehouse import Warehouse
from segue.watch import Explanation, incidents
from segue.watch.incidents import incident_of
from tests.anomaly import outage
from tests.dashboard.conftest import HOSTILE, NOW, fill
from tests.dashboard.discovered import fill_discovered

PAGES = [
    "/",
    "/incidents",
    "/segments",
    "/clusters",
    "/scores",
    "/retention",
    "/retention?by=day",
    "/funnel",
    "/health",
]


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


def test_a_fault_of_the_data_has_a_page_of_its_own_with_what_arrived(client):
    text = client.get("/incidents").text
    ident = text.split("Data: event Order")[0].rsplit('href="/incident/', 1)[1].split('"')[0]
    page = client.get(f"/incident/{ident}").text
    assert "Event Order &lt;b&gt; sent nothing on 2026-02-23" in page
    assert "Order <b>" not in page
    assert page.count('rect class="mark high"') == 2, "marked in the wide and in the narrow chart"
    assert "No KPI has left its expected range" in page
    assert "I am on it" in page


def test_the_overview_says_what_is_expected_and_what_is_not_judged(client):
    text = client.get("/").text
    assert "expected 230" in text
    assert "not judged" in text
    assert "Data: event Order" in text, "going on now"
    assert "Twelve days" in client.get("/health").text


def test_what_is_judged_by_the_week_is_called_so_and_no_band_is_named_that_is_not_drawn(client):
    who = {"slice": "platform=web"}
    text = client.get("/", params=who).text
    assert "judged by the week" in text
    assert "not judged" not in text
    text = client.get("/kpi/conversion", params=who).text
    assert "Judged by the week." in text
    assert "Blue" not in text
    assert "Blue: where 99 of 100 ordinary days lie." in client.get("/kpi/sessions").text


def test_segments_show_sizes_moves_and_overlap_in_numbers(client):
    text = client.get("/segments").text
    assert "<td>low</td><td>high</td><td class=number>9</td>" in text
    assert "<td>power users</td><td>high</td>" not in text, "they no longer exclude each other"
    assert "9 moves of people between segments in 28 days" in text
    assert ">33 %</td>" in text, "3 of the 9 in high are power users"
    assert ">100 %</td>" in text


def test_moves_that_are_not_drawn_are_counted():
    flows = Flows(largest=(("low", "high", 7), ("high", "low", 2)), flow_count=5, move_count=12)
    text = segments_page({"low": [(NOW.date(), 3.0)]}, flows, ([], {}), "", 28)
    assert "12 moves of people between segments in 28 days" in text
    assert "The 2 largest flows of 5: 9 of 12 moves." in text


def test_clusters_show_what_they_are_like_and_what_became_of_them(client):
    text = client.get("/clusters").text
    assert "Large baskets, at night</h2>" in text
    assert "3.0× the usual basket." in text
    assert "days since order: missing" in text
    assert "<td class=number>−1.3</td>" in text
    assert "200 people in 2 clusters, 7 left out" in text
    assert "<td>born</td>" in text
    assert text.count('class="event"') == 2, "the split, in the wide and in the narrow chart; the first day is no event"
    assert "Large baskets, at night from 120 to 135" in text
    assert text.count("<circle") > 60, "the map"
    assert "<script>" not in text
    assert "&lt;script&gt;alert(2)" in text


def test_clusters_that_could_not_be_found_again_are_shown_with_their_date(tmp_path):
    settings = Settings(home=tmp_path, _env_file=None)  # type: ignore[call-arg]
    with Warehouse(settings).write("test") as con:
        con.execute("create schema kpis")
        con.execute(
            "create table kpis.daily (kpi varchar, slice varchar, date date, value double, numerator double,"
            " denominator double, is_complete boolean)"
        )
        fill_discovered(con)
        con.execute("insert into clusters.runs values ('kmeans', '2026-03-01', '{}', 'too few people', null, 3, 3)")
        con.execute("delete from clusters.profiles where method = 'hdbscan'")
        con.execute("update clusters.runs set criterion = 'no minimum size gives groups' where method = 'hdbscan'")
    with TestClient(make_app(settings, lambda: NOW)) as client:
        assert "The last good clusters are shown, of 2026-02-28" in client.get("/clusters").text
        text = client.get("/clusters?method=hdbscan").text
    assert "There are no clusters: no minimum size gives groups" in text
    assert "the other way of finding them" in text


def test_no_two_clusters_have_one_colour_while_there_are_enough():
    assert _colours([0, 3, 8]) == {0: 0, 3: 3, 8: 1}
    assert _colours([8]) == {8: 0}
    assert set(_colours(list(range(9))).values()) == set(range(8))


def test_scores_show_the_model_in_force_against_the_baseline_and_the_bands(client):
    text = client.get("/scores").text
    churn = text.split('id="churn"')[1].split("</section>")[0]
    assert "version <code>v1</code> since 2026-02-21" in churn
    assert "was challenger: the champion stays" in churn
    assert "<td>recency alone</td><td class=number>0.731</td>" in churn
    assert "<td>gradient-boosted trees, calibrated</td><td class=number>0.842</td>" in churn
    assert "order count (0.31)" in churn
    assert "Judged by 1,234 examples at 2 past dates" in churn
    assert "said 90 % and came to 88 %" in churn
    assert "90 people have a score" in churn
    assert "10 are not asked about" in churn
    assert 'slice=segment%3Dchurn_risk_high&amp;days=90">churn risk high</a> (14)' in churn
    assert "<td>low</td><td>high</td><td class=number>45 %</td><td class=number>200</td>" in text


def test_without_a_model_in_force_the_reason_stands_there(client):
    text = client.get("/scores").text
    refused = text.split('id="premium_conversion"')[1].split("</section>")[0]
    assert "No model is in force</b>: as of 2026-02-28, too little to learn from: 12 examples" in refused
    withdrawn = text.split('id="next_purchase"')[1].split("</section>")[0]
    assert "withdrawn 2026-02-25 00:00 UTC: a sale made it wrong" in withdrawn
    assert "segue propensity rollback next_purchase" in withdrawn
    assert "models/segments/purchase_probability_high.sql" in withdrawn


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
        for path in ("/", "/clusters", "/scores"):
            assert "segue refresh" in client.get(path).text
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
        ident = client.get("/incidents").text.split("Sessions")[0].rsplit('href="/incident/', 1)[1].split('"')[0]
        for headers in ({"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}):
            assert client.post(f"/incident/{ident}/dismiss", headers=headers).status_code == 403
        assert "I am on it" in client.get(f"/incident/{ident}").text
        client.post(f"/incident/{ident}/acknowledge", headers={"origin": "http://testserver"})
        assert "I am on it" not in client.get(f"/incident/{ident}").text
        assert "Dismissed" in client.post(f"/incident/{ident}/dismiss", headers={"origin": "http://testserver"}).text
    with Warehouse(settings).read() as con:
        assert [i.status for i in incidents(con)] == ["dismissed"]


def test_a_button_that_another_writer_keeps_waiting_says_who_writes(client, site, incident, monkeypatch):
    monkeypatch.setattr("segue.dashboard.app._PATIENCE_SECONDS", 0.0)
    with Warehouse(site).lock.held("build <kpis>"):
        answer = client.post(f"/incident/{incident}/acknowledge")
        assert answer.status_code == 503
        assert "build &lt;kpis&gt; (pid " in answer.text
        assert "press the button again" in answer.text


def test_what_is_not_there_waits_for_no_writer(client, site, monkeypatch):
    monkeypatch.setattr("segue.dashboard.app._PATIENCE_SECONDS", 0.0)
    with Warehouse(site).lock.held("build kpis"):
        for what in ("nope/dismiss", "nope/acknowledge"):
            answer = client.post(f"/incident/{what}")
            assert (answer.status_code, "There is no such incident" in answer.text) == (404, True)


def test_an_edited_calendar_is_seen_and_a_mistake_in_it_is_called_one(site, incident, tmp_path):
    settings = Settings(home=site.home, dbt_project=tmp_path, _env_file=None)  # type: ignore[call-arg]
    calendar = tmp_path / "calendar.yml"
    with TestClient(make_app(settings, lambda: NOW)) as client:
        assert "A deploy" not in client.get(f"/incident/{incident}").text
        calendar.write_text("calendar: [{name: A deploy, kind: note, first: 2026-02-19}]")
        assert "A deploy" in client.get(f"/incident/{incident}").text
        calendar.write_text("calendar: [{name: A deploy, kind: <note>, first: 2026-02-19}]")
        answer = client.get(f"/incident/{incident}")
        assert answer.status_code == 500
        assert "calendar.yml, line 1: kind cannot be `&lt;note&gt;`" in answer.text
        assert "Possible values: event, note" in answer.text
        assert client.get("/").status_code == 200, "no other page reads it"


def test_a_mistake_of_ours_is_no_page_that_is_missing(site, monkeypatch):
    def broken(*_):
        raise KeyError("a bug")

    monkeypatch.setattr("segue.dashboard.app.incident_pages.incidents_page", broken)
    with TestClient(make_app(site, lambda: NOW), raise_server_exceptions=False) as client:
        answer = client.get("/incidents")
    assert (answer.status_code, "This page is broken" in answer.text) == (500, True)
    with (
        TestClient(make_app(site, lambda: NOW)) as client,
        pytest.raises(KeyError),  # the server gets it, and logs it
    ):
        client.get("/incidents")


def test_a_page_is_never_older_than_the_warehouse(tmp_path):
    settings = Settings(home=tmp_path, _env_file=None)  # type: ignore[call-arg]
    fill(Warehouse(settings))
    with TestClient(make_app(settings, lambda: NOW)) as client:
        assert "expected 230" in client.get("/").text
        with Warehouse(settings).write("test") as con:
            con.execute("update watch.forecasts set expected = 999")
        assert "expected 999" in client.get("/").text


def test_a_series_that_moved_twice_is_no_further_series():
    twice = [outage(anomaly_id=ident) for ident in "ab"]
    assert "more series" not in incident_line(incident_of(twice))
    assert "and 1 more series" in incident_line(incident_of([*twice, outage(anomaly_id="c", slice="all")]))


def test_an_incident_never_says_both_what_moved_and_that_nothing_stands_out(site, incident):
    nothing = Explanation(drivers=(), rate_effect=None, mix_effect=None)
    with Warehouse(site).read() as con:
        [found] = incidents(con, ids=[incident])
    told = incident_page(found, None, ["Moved most: segment power users"], nothing, is_acknowledged=False)
    assert "stands out" not in told
    assert "stands out" in incident_page(found, None, [], nothing, is_acknowledged=False)
