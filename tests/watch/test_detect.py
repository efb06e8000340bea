"""What is found, what is not, and what is said of it."""

from datetime import UTC, date, datetime, timedelta
from importlib import import_module

import pytest

from segue.clock import end_of_day
from segue.errors import BadSettingError, WarehouseError
from segue.watch import anomalies, anomaly_id, detect
from segue.watch.judge import judge
from segue.watch.series import read_one, read_series

AS_OF = datetime(2026, 3, 1, tzinfo=UTC)
OUTAGE, SPIKE = date(2026, 2, 11), date(2026, 2, 19)


def run(kpis, as_of=AS_OF, country="US", judge_days=21):
    with kpis.write() as con:
        return detect(con, as_of=as_of, country=country, judge_days=judge_days)


def found(kpis):
    with kpis.read() as con:
        return anomalies(con)


def series_of(kpis, column="detail"):
    with kpis.read() as con:
        return {(k, s): x for k, s, x in con.execute(f"select kpi, slice, {column} from watch.series").fetchall()}


def test_planted_outages_and_spikes_are_found_and_at_most_one_low_alarm_beside_them(kpis, make_counts, make_ratios):
    kpis.load(
        make_counts(count=60, factors={OUTAGE: 0.2, SPIKE: 1.7})
        + make_counts(slice_="platform=web", count=60, level=200, factors={OUTAGE: 0.2}, seed=1)
        + make_ratios(count=60, shares={SPIKE: 0.22}, seed=2)
    )
    report = run(kpis, judge_days=28)
    truth = {
        ("sessions", "all", "down", OUTAGE),
        ("sessions", "all", "up", SPIKE),
        ("sessions", "platform=web", "down", OUTAGE),
        ("conversion", "all", "up", SPIKE),
    }
    by_key = {(a.kpi, a.slice, a.direction, a.first_date): a for a in found(kpis)}
    assert truth <= by_key.keys()
    extra = [anomaly for key, anomaly in by_key.items() if key not in truth]
    assert [a.severity for a in extra] in ([], ["low"])
    assert all(by_key[key].first_date == by_key[key].last_date == by_key[key].worst_date for key in truth)
    assert len(report.new) == len(by_key)
    assert {a.severity for a in found(kpis) if a.first_date == OUTAGE} == {"high"}
    for anomaly in found(kpis):
        assert not anomaly.lower <= anomaly.value <= anomaly.upper
        assert anomaly.lower < anomaly.expected < anomaly.upper


def test_twenty_quiet_seasonal_series_raise_at_most_one_alarm_in_560_judged_days(kpis, make_counts, make_ratios):
    rows = []
    for n in range(10):
        rows += make_counts(slice_=f"channel={n}", count=100, level=60 * 2**n, noise=0.02 + 0.01 * n, seed=100 + n)
        rows += make_ratios(slice_=f"channel={n}", count=100, share=0.05 + 0.03 * n, cases=700 * (n + 1), seed=200 + n)
    kpis.load(rows)
    report = run(kpis, judge_days=28)
    assert report.judged_count == 20
    assert report.judged_day_count == 20 * 28
    assert len(report.new) <= 1


def test_a_holiday_is_not_an_anomaly_and_the_same_dip_on_another_day_is(kpis, make_counts):
    holiday = date(2026, 2, 16)  # third Monday of February in the US
    kpis.load(make_counts(count=120, level=2000, factors={holiday: 0.55, date(2026, 2, 24): 0.55}))
    run(kpis)
    assert [a.first_date for a in found(kpis)] == [date(2026, 2, 24)]


def test_without_the_calendar_the_holiday_would_be_an_anomaly(kpis, make_counts):
    holiday = date(2026, 2, 16)
    kpis.load(make_counts(count=120, level=2000, factors={holiday: 0.55}))
    run(kpis, country="")
    assert [a.first_date for a in found(kpis)] == [holiday]


def test_series_that_cannot_be_judged_are_said_to_be_so(kpis, make_counts, make_ratios):
    kpis.load(
        make_counts(slice_="short", count=41)
        + [("sessions", "flat", day, 7.0, 7.0, None) for _, _, day, *_ in make_counts(count=90)]
        + make_counts(slice_="sparse", count=90, level=0.5)
        + make_ratios(slice_="sparse", count=90, share=0.02, cases=30)
        + make_counts(slice_="ended", count=90, last=date(2026, 1, 31))
        + make_counts(slice_="good", count=90)
    )
    report = run(kpis)
    status, detail = series_of(kpis, "status"), series_of(kpis)
    assert status == {
        ("sessions", "short"): "too_short",
        ("sessions", "flat"): "flat",
        ("sessions", "sparse"): "sparse",
        ("conversion", "sparse"): "sparse",
        ("sessions", "ended"): "ended",
        ("sessions", "good"): "judged",
    }
    assert detail[("sessions", "short")].startswith("41 complete days")
    assert "No value since 2026-01-31" in detail[("sessions", "ended")]
    assert all(text.endswith(".") for text in detail.values())
    assert {(kpi, slice_) for kpi, slice_, *_ in report.left_out} == {key for key in status if key[1] != "good"}
    assert series_of(kpis, "detectable_change")[("sessions", "good")] == pytest.approx(0.3, abs=0.2)


def test_a_series_that_fails_leaves_the_others_watched_and_its_record_alone(kpis, make_counts, monkeypatch):
    kpis.load(make_counts(count=60, factors={OUTAGE: 0.2}) + make_counts(slice_="platform=web", count=60, seed=1))
    run(kpis)
    kpis.load(make_counts(count=60) + make_counts(slice_="platform=web", count=60, factors={SPIKE: 3.0}, seed=1))

    broken = {"all"}

    def judge_some(series, memory, **options):
        return 1 / 0 if series.slice in broken else judge(series, memory, **options)

    # The package has a function of the name of the module.
    monkeypatch.setattr(import_module("segue.watch.detect"), "judge", judge_some)
    report = run(kpis)
    [(_, slice_, status, why)] = report.left_out
    assert (slice_, status) == ("all", "failed")
    assert "ZeroDivisionError: division by zero." in why
    assert series_of(kpis)[("sessions", "all")] == why
    assert {(a.slice, a.first_date) for a in found(kpis)} == {("all", OUTAGE), ("platform=web", SPIKE)}
    broken.add("platform=web")
    with pytest.raises(ZeroDivisionError):
        run(kpis)


def test_whole_euros_are_modelled_as_money_where_the_yaml_says_so(kpis, make_counts):
    kpis.load(make_counts(kpi="revenue", count=60))
    with kpis.write() as con:
        kind = {s.key: s.kind for s in read_series(con, as_of=AS_OF)}
        assert kind[("revenue", "all")] == "count"
        con.execute("create schema if not exists watch")
        con.execute(
            "create table watch.registry as select 'kpi' as kind, 'revenue' as name, 'Revenue' as label,"
            " 'money' as unit, 'up' as better, '' as owner, '' as description"
        )
        assert [s.kind for s in read_series(con, as_of=AS_OF)] == ["amount"]
        assert read_one(con, "revenue", "all") == read_series(con, as_of=AS_OF)[0]


def test_missing_days_are_no_zeros_and_do_not_part_an_outage(kpis, make_counts):
    gone = {date(2026, 2, 9), date(2026, 2, 18)}
    low = {date(2026, 2, 17): 0.3, date(2026, 2, 19): 0.3}
    kpis.load([row for row in make_counts(count=90, factors=low) if row[2] not in gone])
    run(kpis)
    assert [(a.first_date, a.last_date) for a in found(kpis)] == [(date(2026, 2, 17), date(2026, 2, 19))]
    assert "2 of these days have no value" in series_of(kpis)[("sessions", "all")]


def test_a_day_that_is_not_over_is_neither_judged_nor_learned_from(kpis, make_counts):
    today = date(2026, 2, 28)
    kpis.load(make_counts(count=90, factors={today: 0.3}))
    run(kpis, as_of=datetime(2026, 2, 28, 9, tzinfo=UTC))
    assert found(kpis) == []
    assert series_of(kpis, "last_judged_date")[("sessions", "all")] == date(2026, 2, 27)
    run(kpis, as_of=end_of_day(today))
    assert [a.first_date for a in found(kpis)] == [today]


def test_a_day_marked_incomplete_is_not_judged(kpis, make_counts):
    kpis.load(make_counts(count=90, factors={date(2026, 2, 26): 0.3}))
    with kpis.write() as con:
        con.execute("alter table kpis.daily add column is_complete boolean")
        con.execute("update kpis.daily set is_complete = date <> date '2026-02-26'")
    run(kpis)
    assert found(kpis) == []


def test_the_same_drop_counts_for_many_cases_and_not_for_few(kpis, make_ratios):
    day = date(2026, 2, 11)
    kpis.load(
        make_ratios(slice_="many", share=0.2, cases=2000, shares={day: 0.1})
        + make_ratios(slice_="few", share=0.2, cases=60, shares={day: 0.1}, seed=1)
        # An outage leaves 30 cases, none of them a hit: that happens once in 800 days.
        + [
            ("conversion", "outage", d, 0.0, 0.0, 30.0) if d == day else (kpi, "outage", d, *rest)
            for kpi, _, d, *rest in make_ratios(share=0.2, cases=2000, seed=2)
        ]
    )
    run(kpis)
    assert [(a.slice, a.first_date) for a in found(kpis)] == [("many", day)]


def test_a_rerun_of_the_same_as_of_fits_nothing_and_writes_nothing(kpis, make_counts, make_ratios):
    kpis.load(make_counts(count=90, factors={OUTAGE: 0.2, SPIKE: 1.7}) + make_ratios())
    first = run(kpis)
    before, commits = found(kpis), kpis.commits()
    second = run(kpis)
    assert first.fit_count > 0
    assert second.fit_count == 0
    assert (second.new, second.changed_count, second.withdrawn_count) == ((), 0, 0)
    assert second.anomaly_count == first.anomaly_count == 2
    assert kpis.commits() == commits
    assert found(kpis) == before


def test_the_next_day_of_a_week_fits_nothing_and_the_next_week_fits_once(kpis, make_counts, make_ratios):
    kpis.load([*make_counts(count=100, last=date(2026, 3, 10)), *make_ratios(cases=80.0)])
    assert run(kpis, as_of=end_of_day(date(2026, 2, 25))).by_week_count == 1
    assert run(kpis, as_of=end_of_day(date(2026, 2, 26))).fit_count == 0
    assert run(kpis, as_of=end_of_day(date(2026, 3, 2))).fit_count == 2, "one for each series"


def test_an_anomaly_keeps_its_id_and_first_detection_as_it_gets_longer(kpis, make_counts):
    low = {date(2026, 2, day): 0.3 for day in (24, 25, 26)}
    kpis.load(make_counts(count=90, factors=low))
    seen = []
    for day in (24, 25, 26, 27):
        run(kpis, as_of=end_of_day(date(2026, 2, day)))
        seen.append(found(kpis))
    assert [len(anomalies) for anomalies in seen] == [1, 1, 1, 1]
    assert {anomalies[0].anomaly_id for anomalies in seen} == {anomaly_id("sessions", "all", "down", date(2026, 2, 24))}
    assert {anomalies[0].detected_at for anomalies in seen} == {end_of_day(date(2026, 2, 24))}
    assert [anomalies[0].last_date.day for anomalies in seen] == [24, 25, 26, 26]


def test_an_anomaly_that_began_before_the_judged_window_goes_on_under_its_id(kpis, make_counts):
    low = {date(2026, 2, day): 0.3 for day in range(18, 25)}
    kpis.load(make_counts(count=90, factors=low))
    run(kpis, as_of=end_of_day(date(2026, 2, 24)), judge_days=10)
    [before] = found(kpis)
    run(kpis, as_of=end_of_day(date(2026, 2, 26)), judge_days=5)
    [after] = found(kpis)
    same = ("anomaly_id", "first_date", "last_date", "detected_at")
    assert [getattr(after, name) for name in same] == [getattr(before, name) for name in same]


def test_days_run_in_any_order_give_the_same_record(kpis, make_counts):
    kpis.load(make_counts(count=90, factors={OUTAGE: 0.2}))
    run(kpis, as_of=end_of_day(date(2026, 2, 20)))
    run(kpis, as_of=end_of_day(date(2026, 2, 13)))
    run(kpis, as_of=end_of_day(date(2026, 2, 5)))
    [anomaly] = found(kpis)
    assert anomaly.first_date == OUTAGE
    assert anomaly.detected_at == end_of_day(date(2026, 2, 13))


def test_late_data_that_put_a_day_back_in_line_withdraw_its_anomaly(kpis, make_counts):
    kpis.load(make_counts(count=90, factors={OUTAGE: 0.2}))
    run(kpis)
    assert len(found(kpis)) == 1
    kpis.load(make_counts(count=90))
    report = run(kpis)
    assert report.withdrawn_count == 1
    assert found(kpis) == []


def test_a_forecast_knows_nothing_of_the_week_it_judges(kpis, make_counts):
    def forecasts():
        with kpis.read() as con:
            return con.execute(
                "select date, expected, lower, upper from watch.forecasts where date >= '2026-02-23' order by date"
            ).fetchall()

    kpis.load(make_counts(count=90))
    run(kpis)
    quiet = forecasts()
    with kpis.write() as con:
        con.execute("delete from watch.forecasts")
    kpis.load([(*r[:3], r[3] * 5, None, None) if r[2] >= date(2026, 2, 23) else r for r in make_counts(count=90)])
    run(kpis)
    assert forecasts() == quiet
    assert len(quiet) == 7


def test_an_outage_does_not_teach_the_model_that_outages_are_normal(kpis, make_counts):
    low = {date(2026, 2, day): 0.3 for day in (10, 11, 12)}
    kpis.load(make_counts(count=90, factors=low))
    run(kpis)
    with kpis.read() as con:
        [(expected,)] = con.execute("select expected from watch.forecasts where date = '2026-02-25'").fetchall()
    assert expected == pytest.approx(400 * 1.3 * 1.09, rel=0.1)


def test_a_level_that_changed_for_good_is_one_anomaly_and_then_the_new_normal(kpis, make_counts):
    shift = date(2026, 1, 5)
    kpis.load(make_counts(count=150, factors={shift + timedelta(days=i): 2.0 for i in range(60)}))
    for week in range(7):
        run(kpis, as_of=end_of_day(date(2026, 1, 18) + timedelta(weeks=week) - timedelta(days=1)))
    late = [a for a in found(kpis) if a.last_date > date(2026, 2, 8)]
    assert [a.first_date for a in found(kpis)] == [shift]
    assert late == []
    assert series_of(kpis, "status")[("sessions", "all")] == "judged"
    assert series_of(kpis, "learned_since")[("sessions", "all")] == shift


def test_without_kpis_the_message_says_how_to_get_them(kpis):
    with pytest.raises(WarehouseError, match="segue refresh"):
        run(kpis)


def test_an_unknown_country_is_named(kpis, make_counts):
    kpis.load(make_counts(count=60))
    with pytest.raises(BadSettingError, match=r"'XX'[\s\S]*ISO 3166"):
        run(kpis, country="XX")
