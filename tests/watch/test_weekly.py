"""What a week is of its days."""

from datetime import UTC, date, datetime, timedelta

import pytest

from segue.watch.series import Point, make_series, read_one, read_series
from segue.watch.weekly import by_week

MONDAY, SUNDAY = date(2026, 1, 5), date(2026, 1, 11)
AS_OF = datetime(2026, 1, 12, tzinfo=UTC)


def week_of(values, *, denominators, numerators=None) -> list[Point]:
    return [
        Point(date=MONDAY + timedelta(days=n), value=v, numerator=(numerators or [None] * 7)[n], denominator=d)
        for n, (v, d) in enumerate(zip(values, denominators, strict=True))
    ]


@pytest.mark.parametrize(
    ("points", "value"),
    [
        # The median session length of a day: two minutes, and not fourteen.
        (week_of([120.0, 121.5, 119.5, 120.0, 120.0, 120.0, 119.0], denominators=[9.0] * 7), 120.0),
        # The size of a segment beside the active people.
        (week_of([40, 41, 41, 41, 41, 41, 41], numerators=[40, *[41] * 6], denominators=[200] * 7), 41),
        # Sales of a shop whose analyst divides them by 1.
        (week_of([10.5] * 7, numerators=[10.5] * 7, denominators=[1.0] * 7), 73.5),
        (week_of([10.5] * 7, numerators=[10.5] * 7, denominators=[None] * 7), 73.5),
    ],
)
def test_a_week_of_a_level_is_its_average_and_of_what_is_counted_its_sum(points, value):
    series = make_series("kpi", "all", points)
    weekly = by_week(series, last=SUNDAY)
    assert [(p.date, p.value) for p in weekly.points] == [(SUNDAY, pytest.approx(value))]
    assert weekly.kind == series.kind, "sums of halves may be whole, which does not make them cases"


def test_a_day_without_a_case_does_not_take_its_week_away_and_a_missing_day_does(kpis):
    def rows(slice_, missing):
        for n in range(7):
            day, has_cases = MONDAY + timedelta(days=n), n != 3
            if has_cases or not missing:
                hits, total = (1.0, 4.0) if has_cases else (0.0, 0.0)
                yield ("conversion", slice_, day, hits / total if total else None, hits, total)
                middle = 30.5 if has_cases else None
                yield ("engagement_duration_median", slice_, day, middle, None, total)

    kpis.load([*rows("country=AT", missing=False), *rows("country=LI", missing=True)])
    with kpis.read() as con:
        weeks = {s.key: by_week(s, last=SUNDAY).points for s in read_series(con, as_of=AS_OF)}
        assert len(read_one(con, "conversion", "country=AT").points) == 6, "no day is a zero"
    [conversion] = weeks["conversion", "country=AT"]
    assert (conversion.value, conversion.numerator, conversion.denominator) == (0.25, 6.0, 24.0)
    assert [p.value for p in weeks["engagement_duration_median", "country=AT"]] == [30.5]
    assert weeks["conversion", "country=LI"] == weeks["engagement_duration_median", "country=LI"] == ()
