"""The rules by themselves: false alarms, scales, words."""

import math
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.watch import amount, clean, describe, name_of
from segue.watch.judge import Judgement, Memory, discoveries, judge, score_of
from segue.watch.prophet import quiet
from segue.watch.series import Point, make_series
from segue.watch.weekly import judge_weeks
from segue.watch.words import percent, period, points
from tests.anomaly import outage


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.floats(0.01, 0.2))
def test_what_is_discovered_is_what_benjamini_and_hochberg_define(p_values, rate):
    ordered = sorted(p_values)
    ranks = [k for k in range(1, len(ordered) + 1) if ordered[k - 1] <= rate * k / len(ordered)]
    threshold = discoveries(p_values, rate=rate)
    assert sum(p <= threshold for p in p_values) >= max(ranks, default=0)
    assert threshold == (ordered[max(ranks) - 1] if ranks else -1.0)


def test_the_score_is_the_normal_deviate():
    assert score_of(0.05) == pytest.approx(1.96, abs=0.001)
    assert score_of(0.0) < 40


@pytest.mark.parametrize(("share", "text"), [(0.178, "+17.8"), (-0.043, "−4.3"), (-0.0001, "0.0"), (0.0, "0.0")])
def test_a_difference_that_rounds_to_nothing_has_no_sign(share, text):
    assert points(share) == text


@given(st.floats(0, 1e9))
def test_every_scale_can_be_undone(value):
    points = [Point(date=date(2026, 1, n), value=v, numerator=None, denominator=None) for n, v in ((1, 3.0), (2, 5.5))]
    series = make_series("revenue", "all", points)
    point = Point(date=date(2026, 1, 3), value=value, numerator=None, denominator=None)
    assert series.restore(series.transform(point)) == pytest.approx(value, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([(0.1, 10.0, 100.0), (0.2, 10.0, 50.0)], "ratio"),
        ([(300.0, 3000.0, 10.0), (250.5, 5010.0, 20.0)], "mean"),
        ([(7.0, 7.0, None), (0.0, 0.0, None)], "count"),
        ([(40.0, 40.0, 200.0), (41.0, 41.0, 210.0)], "count"),  # a segment's size, beside the active people
        ([(99.9, None, None), (12.0, None, None)], "amount"),
        ([(-1.0, None, None), (2.0, None, None)], "signed"),
    ],
)
def test_a_measure_is_modelled_as_its_numbers_call_for(values, kind):
    points = [
        Point(date=date(2026, 1, day), value=value, numerator=numerator, denominator=denominator)
        for day, (value, numerator, denominator) in enumerate(values, start=1)
    ]
    assert make_series("k", "all", points).kind == kind


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([(70.0, 70.0, None), (120.0, 120.0, None)], "amount"),  # whole euros are no cases
        ([(0.3, 30.0, 100.0), (0.2, 10.0, 50.0)], "mean"),  # nor is 0.30 a visit a share of anything
        ([(-1.0, None, None), (2.0, None, None)], "signed"),
    ],
)
def test_money_is_neither_a_count_nor_a_share(values, kind):
    points = [
        Point(date=date(2026, 1, day), value=value, numerator=numerator, denominator=denominator)
        for day, (value, numerator, denominator) in enumerate(values, start=1)
    ]
    assert make_series("revenue", "all", points, unit="money").kind == kind


def test_a_ratio_of_nothing_stays_finite():
    points = [Point(date=date(2026, 1, n), value=v, numerator=v * 9, denominator=9.0) for n, v in ((1, 0.0), (2, 1.0))]
    series = make_series("conversion", "all", points)
    assert all(math.isfinite(series.transform(point)) for point in points)


@pytest.mark.parametrize(
    ("value", "kpi", "kind", "text"),
    [
        (0.0321, "conversion", "ratio", "3.2 %"),
        (0.0, "conversion", "ratio", "0 %"),
        (0.00123, "conversion", "ratio", "0.12 %"),
        (252.4, "engagement_duration", "mean", "4 min 12 s"),
        (7384.0, "engagement_duration", "mean", "2 h 03 min"),
        (1234.4, "sessions", "count", "1,234"),
        (59.6, "sessions", "count", "60"),
        (1234.56, "revenue", "amount", "1,235"),
        (0.01234, "score", "amount", "0.0123"),
    ],
)
def test_values_are_written_with_their_unit(value, kpi, kind, text):
    assert amount(value, kpi=kpi, kind=kind) == text


@pytest.mark.parametrize(("share", "text"), [(-0.812, "−81 %"), (0.034, "+3.4 %"), (11.0, "×12")])
def test_changes_are_written_with_their_sign(share, text):
    assert percent(share) == text


def test_slices_are_named_in_words():
    assert name_of("conversion", "all") == "Conversion"
    assert name_of("active_people", "platform=web") == "Active people, platform web"
    assert name_of("segment_size", "segment=power_users") == "Size of segment power users"
    assert name_of("engagement_duration", "country=GB", "Session length") == "Session length, country GB"


@given(st.text(max_size=300))
def test_names_from_data_become_one_short_visible_line(text):
    line = clean(text)
    assert len(line) <= 80
    assert line.isprintable() or " " in line
    assert not any(ord(c) < 32 or c in "\u202e\u200b\u2028" for c in line)


def test_an_anomaly_is_told_in_one_sentence():
    assert describe(outage()) == (
        "Sessions, platform web fell to 41 on Sat 14 Feb 2026, 81 % below the 214 expected (ordinary: 174 to 263)."
    )


def test_an_anomaly_that_reaches_the_last_known_day_is_still_going_on():
    long = outage(last_date=date(2026, 2, 16))
    assert period(long, known_until=date(2026, 2, 16)) == "since Sat 14 Feb 2026, still going on"
    assert period(long, known_until=date(2026, 2, 20)) == "Sat 14 Feb – Mon 16 Feb 2026 (3 days)"
    assert "3 days (since Sat 14 Feb 2026, still going on)" in describe(long, known_until=date(2026, 2, 16))


def test_bad_weeks_in_a_row_are_told_in_weeks_and_go_on_until_a_whole_one_is_known():
    last, worst = date(2026, 2, 22), date(2026, 2, 15)
    three = outage(grain="week", first_date=date(2026, 2, 2), last_date=last, worst_date=worst)
    assert "fell to 41 in the week from Mon 9 Feb, the worst of 3 weeks (Mon 2 Feb – Sun 22 Feb 2026), " in describe(
        three
    )
    assert period(three, known_until=date(2026, 2, 28)) == "since Mon 2 Feb 2026, still going on"
    assert period(three, known_until=date(2026, 3, 1)) == "Mon 2 Feb – Sun 22 Feb 2026 (3 weeks)"


def test_weeks_at_a_new_level_are_told_once_and_then_learned_from():
    sunday = date(2025, 9, 7)
    counts = [100 + (7 * n) % 11 for n in range(12)] + [300 + (5 * n) % 13 for n in range(14)]
    weeks = [
        Point(date=sunday + timedelta(weeks=n), value=float(count), numerator=float(count), denominator=None)
        for n, count in enumerate(counts)
    ]
    weekly = make_series("orders", "all", weeks)
    days = judge_weeks(weekly, first=date(2025, 1, 1), last=weeks[-1].date)
    found = [day.date for day in days if day.score > 3.5]
    assert found == [weeks[n].date for n in (12, 13, 14, 15)], "four weeks, and no more"
    later = [day for day in days if day.date > weeks[15].date]
    assert [day.date for day in later] == [p.date for p in weeks[20:]], "eight weeks are needed to judge again"
    assert all(290 < weekly.restore(day.forecast.middle) < 320 for day in later)


def test_a_segment_that_began_with_nobody_is_not_expected_to_grow_for_ever():
    counts = [0] * 10 + [1, 1, 2, 0, 1, 0, 2, 2, 2, 2, 2, 1, 3, 1, 3, 4, 9, 2, 6, 10, 8, 10, 10, 11, 6, 9, 9, 9, 15, 11]
    counts += [14, 9, 11, 24, 11, 12, 19, 23, 1, 9, 18, 22, 15, 17, 23, 10, 8, 25, 24, 21]
    first = date(2026, 9, 27)
    days = [
        Point(date=first + timedelta(days=n), value=float(count), numerator=float(count), denominator=None)
        for n, count in enumerate(counts)
    ]

    def judged_up_to(count: int) -> Judgement:
        series = make_series("sessions", "segment=new", days[:count])
        with quiet():
            return judge(series, Memory(), first=days[28].date, last=days[count - 1].date, country="US")

    grown, young = judged_up_to(60), judged_up_to(56)
    assert [day.date for day in grown.days] == [day.date for day in days[57:]]
    assert max(day.score for day in grown.days) < 2
    assert all(15 < grown.series.restore(day.forecast.middle) < 30 for day in grown.days)
    assert (young.status, young.days) == ("sparse", ())
    assert "fewer than 5 cases a day until 2026-10-23" in young.detail
