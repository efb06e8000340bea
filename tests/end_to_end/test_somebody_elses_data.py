"""Events of a web shop that is not ours, through `segue import` and the whole graph."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.installation import ROOT, Installation


@pytest.fixture(scope="module")
def ecom(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    return Installation(home=tmp_path_factory.mktemp("ecom"), history_start="2024-01-01", history_days=14)


def test_every_row_is_in_a_second_import_adds_nothing_and_the_graph_runs(ecom: Installation) -> None:
    fetched = subprocess.run(
        [sys.executable, str(ROOT / "examples/ecom/fetch.py")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert fetched.returncode == 0, fetched.stderr
    file = ROOT / Path(fetched.stdout.split()[-1])
    for _ in range(2):
        ecom.said("import", str(file), "--mapping", str(ROOT / "examples/ecom/mapping.yaml"))
        (counts,) = ecom.rows(
            "select count(*) as n, count(distinct user_id) as users, count(distinct event) as events from raw.events"
        )
        assert counts == {"n": 31_106, "users": 600, "events": 19}
    (end,) = ecom.rows("select (max(received_at)::date + 1)::varchar as day from raw.events")
    ecom.said("refresh", "--as-of", end["day"])
    (people,) = ecom.rows("select count(*) as n from marts.person_features")
    assert people["n"] == 600
    assert ecom.rows("select segment from segments.memberships where exited_at is null limit 1")
