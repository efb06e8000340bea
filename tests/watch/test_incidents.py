"""What belongs together, what is known beforehand, what people say is none, and what takes a week to see."""

from datetime import UTC, date, datetime, timedelta

import pytest

from segue.errors import BadInputError, DefinitionError
from segue.watch import (
    anomalies,
    backtest,
    detect,
    dismiss,
    incidents,
    load_calendar,
    plot_backtest,
    precision,
    restore,
)
from segue.watch.dismiss import dismiss_incident
from segue.watch.record import read_memories

AS_OF = datetime(2026, 3, 1, tzinfo=UTC)
OUTAGE = date(2026, 2, 11)


def run(kpis, **options):
    with kpis.write() as con:
        return detect(con, **{"as_of": AS_OF, "country": "US", "judge_days": 21, **options})


def found(kpis):
    with kpis.read() as con:
        return incidents(con)


def test_an_outage_that_moves_forty_series_is_one_incident(kpis, make_counts, make_anomaly_rows):
    make_anomaly_rows(kpis, [(f"kpi{n % 5}", "all" if n < 5 else f"platform=p{n // 5}", OUTAGE) for n in range(40)])
    [incident] = found(kpis)
    assert len(incident.anomalies) == 40
    assert incident.lead.slice == "all"
    assert (incident.first_date, incident.status) == (OUTAGE, "recovered")


def test_what_shares_neither_kpi_nor_slice_nor_day_is_not_one_incident(kpis, make_anomaly_rows):
    later = OUTAGE + timedelta(days=5)
    make_anomaly_rows(
        kpis,
        [("sessions", "country=FR", OUTAGE), ("revenue", "channel=email", OUTAGE), ("sessions", "country=FR", later)],
    )
    assert [len(incident.anomalies) for incident in found(kpis)] == [1, 1, 1]


def test_the_size_of_a_segment_moves_with_everybody(kpis, make_anomaly_rows):
    make_anomaly_rows(kpis, [("sessions", "all", OUTAGE), ("segment_size", "segment=active_last_24h", OUTAGE)])
    assert [len(incident.anomalies) for incident in found(kpis)] == [2]


def test_an_incident_keeps_its_id_as_it_grows(kpis, make_anomaly_rows):
    make_anomaly_rows(kpis, [("sessions", "all", OUTAGE)])
    [before] = found(kpis)
    make_anomaly_rows(kpis, [("sessions", "platform=ios", OUTAGE - timedelta(days=1))])
    [after] = found(kpis)
    assert after.incident_id == before.incident_id
    assert len(after.anomalies) == 2


def test_a_dismissed_anomaly_is_not_shown_again_and_counts_against_precision(kpis, make_counts):
    kpis.load(make_counts(count=60, factors={OUTAGE: 0.2}))
    run(kpis)
    with kpis.write() as con:
        [anomaly] = anomalies(con)
        dismiss(con, anomaly.anomaly_id, by="ada", reason="a test", as_of=AS_OF)
        dismiss(con, anomaly.anomaly_id, by="ada", reason="again", as_of=AS_OF)
        with pytest.raises(BadInputError, match="no anomaly"):
            dismiss(con, "nope", by="ada", reason="", as_of=AS_OF)
    run(kpis)
    with kpis.read() as con:
        assert anomalies(con) == []
        assert [(p.kpi, p.found_count, p.dismissed_count, p.precision) for p in precision(con)] == [
            ("sessions", 1, 1, 0.0)
        ]
        assert [i.status for i in incidents(con)] == ["dismissed"]


def test_an_incident_follows_what_is_dismissed_and_restored_at_once(kpis, make_anomaly_rows):
    make_anomaly_rows(kpis, [("sessions", "all", OUTAGE), ("sessions", "platform=web", OUTAGE)])
    with kpis.write() as con:
        con.execute("insert into watch.series (kpi, slice, judged_at) values ('sessions', 'all', $1)", [OUTAGE])
        first, second = (a.anomaly_id for a in anomalies(con))
        dismiss(con, first, by="ada", reason="", as_of=AS_OF)
        [left] = incidents(con)
        assert ([a.anomaly_id for a in left.anomalies], left.status) == ([second], "open")
        dismiss(con, second, by="ada", reason="", as_of=AS_OF)
        assert [i.status for i in incidents(con)] == ["dismissed"]
        restore(con, first)
        [back] = incidents(con)
        assert ([a.anomaly_id for a in back.anomalies], back.status) == ([first], "open")
        dismiss_incident(con, back.incident_id, by="ada", reason="", as_of=AS_OF)
        assert [i.status for i in incidents(con)] == ["dismissed"]
        with pytest.raises(BadInputError, match="no incident"):
            dismiss_incident(con, "nope", by="ada", reason="", as_of=AS_OF)


def test_what_the_calendar_knows_is_no_anomaly(kpis, make_counts, tmp_path):
    sale = date(2026, 2, 17)
    kpis.load(make_counts(count=90, factors={sale: 1.5}))
    run(kpis)
    with kpis.read() as con:
        assert [a.first_date for a in anomalies(con)] == [sale]
    path = tmp_path / "calendar.yml"
    path.write_text(f"calendar: [{{name: Sale, first: {sale}, kpis: [sessions]}}]")
    report = run(kpis, calendar=load_calendar(path))
    assert report.fit_count > 0, "the forecasts of before did not know of it"
    assert found(kpis) == []
    assert run(kpis, calendar=load_calendar(path)).fit_count == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("calendar: [{name: Sale, first: 2026-03-02, last: 2026-03-01}]", "before the first"),
        ("calendar: [{name: Sale, first: soon}]", "2026-03-14"),
        ("calendar: [{name: Sale, frist: 2026-03-01}]", "did you mean `first`"),
        ("calendar: [{name: Sale, first: 2026-01-01, last: 2026-06-01}]", "60 days"),
    ],
)
def test_mistakes_in_the_calendar_are_shown_where_they_are(tmp_path, text, said):
    path = tmp_path / "calendar.yml"
    path.write_text(text)
    with pytest.raises(DefinitionError, match=said) as error:
        load_calendar(path)
    assert "line 1" in str(error.value)


def test_a_series_too_small_for_a_day_is_judged_by_the_week(kpis, make_ratios):
    week = [date(2026, 2, 16) + timedelta(days=n) for n in range(7)]
    kpis.load(
        make_ratios(count=200, share=0.12, cases=60, shares=dict.fromkeys(week, 0.02))
        + make_ratios(slice_="quiet", count=200, share=0.12, cases=60, seed=5)
    )
    report = run(kpis)
    assert report.by_week_count == 2
    with kpis.read() as con:
        [anomaly] = anomalies(con)
        details = con.execute("select distinct status, detail from watch.series").fetchall()
    assert (anomaly.grain, anomaly.slice, anomaly.first_date, anomaly.last_date) == ("week", "all", week[0], week[-1])
    assert anomaly.value < 0.05 < anomaly.lower
    assert all(status == "by_week" and "Judged by the week" in detail for status, detail in details)


def test_bad_weeks_in_a_row_are_one_anomaly_that_goes_on_under_its_id(kpis, make_ratios):
    first = date(2026, 2, 2)
    low = [first + timedelta(days=n) for n in range(21)]
    kpis.load(make_ratios(count=200, share=0.12, cases=60, shares=dict.fromkeys(low, 0.02)))
    run(kpis, as_of=datetime(2026, 2, 9, tzinfo=UTC))
    [before] = found(kpis)
    run(kpis, as_of=datetime(2026, 2, 12, tzinfo=UTC))
    assert found(kpis)[0].status == "open", "no whole week is known that has been as expected again"
    run(kpis)
    [after] = found(kpis)
    assert after.incident_id == before.incident_id
    assert [(a.anomaly_id, a.first_date, a.last_date) for a in after.anomalies] == [
        (before.lead.anomaly_id, first, low[-1])
    ]
    with kpis.read() as con:
        [memory] = read_memories(con, anomalies(con)).values()
    assert memory.disturbed == frozenset(low), "three weeks are no new normal"


def test_what_concerns_few_people_is_less_severe(kpis, make_counts):
    kpis.load(
        make_counts(slice_="country=XX", count=60, level=300, factors={OUTAGE: 0.2})
        + make_counts(kpi="active_people", slice_="all", count=60, level=30_000, noise=0.01, seed=5)
        + make_counts(kpi="active_people", slice_="country=XX", count=60, level=250, seed=6)
    )
    run(kpis)
    with kpis.read() as con:
        assert [(a.kpi, a.severity) for a in anomalies(con) if a.first_date == OUTAGE] == [("sessions", "medium")]


def test_the_past_is_judged_with_and_without_each_setting(kpis, make_counts):
    kpis.load(make_counts(count=60, factors={OUTAGE: 0.2}))
    run(kpis)
    with kpis.write() as con:
        by_setting = {b.setting: b for b in backtest(con, as_of=AS_OF)}
    commits = kpis.commits()
    with kpis.write() as con:
        assert plot_backtest(backtest(con, as_of=AS_OF)).startswith(b"\x89PNG")
    assert kpis.commits() == commits
    ours, plain = by_setting["as it is"], by_setting["28-day z-score instead"]
    assert (ours.disturbed_found_share, ours.quiet_found_count) == (1.0, 0)
    assert ours.inside_share > 0.9
    assert ours.median_error < 0.1
    assert plain.disturbed_found_share == 0.0, "the weekly season hides it"
