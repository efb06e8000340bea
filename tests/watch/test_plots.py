"""Pictures: always a PNG, whatever the names hold."""

import struct
from datetime import UTC, date, datetime

import pytest

from segue.errors import BadInputError
from segue.watch import anomalies, detect, plot_anomaly, plot_overview, plot_series

AS_OF = datetime(2026, 3, 1, tzinfo=UTC)
HOSTILE = "platform=<script>$\\frac{1}{0}$ 🎉\n\u202eevil" + "x" * 500


def size(png: bytes) -> tuple[int, int]:
    assert png.startswith(b"\x89PNG\r\n")
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def test_series_anomaly_and_overview_are_drawn_for_any_name(kpis, make_counts):
    kpis.load(make_counts(slice_=HOSTILE, count=70, factors={date(2026, 2, 11): 0.2}))
    with kpis.write() as con:
        detect(con, as_of=AS_OF, country="US")
    with kpis.read() as con:
        [anomaly] = anomalies(con)
        for png in (
            plot_anomaly(con, anomaly.anomaly_id),
            plot_series(con, "sessions", HOSTILE),
            plot_overview(con),
        ):
            width, height = size(png)
            assert 800 < width < 1200
            assert 150 < height < 600


def test_a_series_that_was_never_judged_and_an_empty_record_can_be_drawn(kpis, make_counts):
    kpis.load(make_counts(count=10))
    with kpis.write() as con:
        detect(con, as_of=AS_OF, country="US")
    with kpis.read() as con:
        size(plot_series(con, "sessions", "all"))
        size(plot_overview(con))


def test_what_does_not_exist_is_said_to_be_so(kpis, make_counts):
    kpis.load(make_counts(count=10))
    with kpis.read() as con:
        with pytest.raises(BadInputError, match="no anomaly 'nope'"):
            plot_anomaly(con, "nope")
        with pytest.raises(BadInputError, match="no series"):
            plot_series(con, "nope", "all")
