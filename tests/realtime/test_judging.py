"""A typing error in a contract stops no event: the last good contracts go on, across restarts too, and it is told."""

import json
import logging
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from segue.errors import DefinitionError
from segue.events import ingest, load_contracts
from segue.realtime.judging import ContractJudge
from segue.realtime.last_good import remember_contracts, remembered_contracts
from segue.settings import PROJECT_ROOT, Settings
from segue.warehouse import Warehouse

NOW = datetime(2026, 3, 2, tzinfo=UTC)
GOOD = "event: Paid\ndescription: d\nowner: o\nproperties:\n  sum: {type: number, required: true}\n"
LOOSE = GOOD.replace("required: true", "required: false")
TYPO = GOOD.replace("number", "numbr")


@pytest.fixture
def project(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr("segue.realtime.judging._LOOK_SECONDS", -1)
    (tmp_path / "dbt" / "contracts").mkdir(parents=True)
    found = settings.model_copy(update={"dbt_project": tmp_path / "dbt", "settle_seconds": 0})
    contract(found).write_text(GOOD)
    return found


def contract(settings: Settings) -> Path:
    return settings.dbt_project / "contracts" / "paid.yml"


def made(settings: Settings) -> ContractJudge:
    return ContractJudge(settings, lambda: NOW)


def payload(**properties: object) -> bytes:
    message = {"type": "track", "event": "Paid", "userId": "u", "messageId": "m", "receivedAt": NOW.isoformat()}
    return json.dumps(message | {"timestamp": NOW.isoformat(), "properties": properties}).encode() + b"\n"


def passes(judge: Callable[[bytes], object], **properties: object) -> bool:
    return judge(payload(**properties)).num_rows == 1  # type: ignore[attr-defined]


def test_a_broken_contract_leaves_the_last_good_one_and_is_told_once(
    project: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    judge = made(project)
    assert (passes(judge, sum=1), passes(judge)) == (True, False)
    assert judge.error() == ""
    contract(project).write_text(TYPO)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            assert (passes(judge, sum=1), passes(judge)) == (True, False)
    assert "paid.yml, line 5" in judge.error()
    assert len(caplog.records) == 1
    contract(project).write_text(LOOSE)
    assert passes(judge)
    assert judge.error() == ""


def test_what_is_as_it_was_before_is_broken_no_more(project: Settings) -> None:
    judge, kept = made(project), project.home / "kept.yml"
    kept.parent.mkdir(exist_ok=True)
    shutil.copy2(contract(project), kept)
    contract(project).write_text(TYPO)
    assert judge.error()
    shutil.copy2(kept, contract(project))  # with its time
    assert judge.error() == ""


def test_the_last_good_contracts_go_on_after_a_restart(project: Settings) -> None:
    made(project)
    contract(project).write_text(TYPO)
    judge = made(project)
    assert (passes(judge, sum=1), passes(judge)) == (True, False)
    assert "paid.yml" in judge.error()


def test_contracts_that_never_could_be_used_are_an_error(project: Settings) -> None:
    contract(project).write_text(TYPO)
    with pytest.raises(DefinitionError, match=r"paid\.yml"):
        made(project)


def test_a_file_that_is_replaced_during_a_look_stops_nothing(
    project: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge, glob = made(project), Path.glob
    monkeypatch.setattr(Path, "glob", lambda path, pattern: [*glob(path, pattern), path / "gone.yml"])
    assert passes(judge, sum=1)
    assert judge.error() == ""


def test_contracts_are_remembered_as_they_are(tmp_path: Path) -> None:
    assert remembered_contracts(tmp_path) is None
    shipped = load_contracts(PROJECT_ROOT / "dbt_project" / "contracts")
    remember_contracts(shipped, tmp_path)
    assert remembered_contracts(tmp_path) == shipped
    (tmp_path / "contracts.json").write_text("[{}]")
    assert remembered_contracts(tmp_path) is None


def test_ingest_waits_for_a_mended_contract_and_then_agrees(project: Settings) -> None:
    judge = made(project)
    project.landing_zone.mkdir(parents=True)
    (project.landing_zone / "one.ndjson").write_bytes(payload(sum=1))
    contract(project).write_text(TYPO)
    with pytest.raises(DefinitionError, match=r"paid\.yml"):
        ingest(Warehouse(project), as_of=NOW)
    assert passes(judge, sum=1)
    contract(project).write_text(GOOD)
    assert ingest(Warehouse(project), as_of=NOW).loaded == 1
