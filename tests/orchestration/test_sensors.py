"""What sensors ask for, and when they keep quiet."""

import dagster as dg
import pytest

from segue.alerts import Pending
from segue.events import EventFile, PendingFiles

pytestmark = pytest.mark.usefixtures("installation")

ONE = PendingFiles(
    files=(EventFile(name="a.ndjson", path=__import__("pathlib").Path("a.ndjson"), size=1, modified_us=0),),
    fingerprint="f1",
)
NONE = PendingFiles(files=(), fingerprint="")


def test_new_files_ask_for_a_refresh_of_today() -> None:
    from sensors.new_files import react

    answer = react(ONE, asked=None, is_queued=False, day="2026-03-01")
    assert isinstance(answer, dg.SensorResult)
    (request,) = answer.run_requests or []
    assert (request.run_key, request.partition_key, answer.cursor) == ("f1", "2026-03-01", "f1")


@pytest.mark.parametrize(
    ("waiting", "asked", "is_queued"), [(NONE, None, False), (ONE, "f1", False), (ONE, None, True), (ONE, "f0", True)]
)
def test_new_files_are_asked_for_once(waiting: PendingFiles, asked: str | None, is_queued: bool) -> None:
    from sensors.new_files import react

    assert isinstance(react(waiting, asked=asked, is_queued=is_queued, day="2026-03-01"), dg.SkipReason)


def test_a_file_that_grew_is_asked_for_again() -> None:
    from sensors.new_files import react

    assert isinstance(react(ONE, asked="f0", is_queued=False, day="2026-03-01"), dg.SensorResult)


def test_an_alert_is_asked_for_once_per_attempt() -> None:
    from sensors.anomalies import react

    def waiting(attempts: int) -> list[Pending]:
        return [Pending(kind="anomaly", subject_id="a1", channel="slack", attempts=attempts)]

    first, same, later = (react(waiting(n)) for n in (0, 0, 1))
    assert isinstance(first, dg.RunRequest)
    assert isinstance(same, dg.RunRequest)
    assert isinstance(later, dg.RunRequest)
    assert first.run_key == same.run_key != later.run_key
    assert isinstance(react([]), dg.SkipReason)


def test_an_edit_is_loaded_once() -> None:
    from sensors.edited_sql import why_not

    assert why_not("new", loaded="old", asked=None) is None
    assert why_not("new", loaded="old", asked="older") is None
    assert why_not("same", loaded="same", asked=None) is not None
    assert why_not("new", loaded="old", asked="new") is not None
