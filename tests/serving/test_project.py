"""The project is followed whatever happens to its files meanwhile."""

import logging
import threading
from collections.abc import Iterator

import pytest

from segue.errors import DefinitionError
from segue.serving.project import FollowedProject
from segue.settings import Settings


def test_a_project_that_cannot_be_read_is_looked_at_again_and_told_of_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("segue.serving.project._LOOK_SECONDS", 0)
    gone, wrong = FileNotFoundError(2, "No such file", "models/a.sql"), DefinitionError("dbt_project.yml: no key")
    answers: Iterator[Exception | None] = iter([gone, gone, wrong, wrong, None])
    project, stop = FollowedProject(settings), threading.Event()

    def look() -> None:
        answer = next(answers)
        if answer is None:
            stop.set()
        else:
            raise answer

    monkeypatch.setattr(project, "look", look)
    with caplog.at_level(logging.WARNING):
        project.follow(stop)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert "models/a.sql" in said[0]
    assert "dbt_project.yml" in said[1]
