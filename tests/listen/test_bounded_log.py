"""A client cannot make a log grow."""

import logging

from segue.listen import BoundedLog


def line(text: str) -> logging.LogRecord:
    return logging.LogRecord("uvicorn.error", logging.WARNING, "", 0, text, (), None)


def test_a_line_is_said_once_a_minute_with_how_often_it_was_left_out() -> None:
    now = 0.0
    bound = BoundedLog(lambda: now)
    assert [bound.filter(line("odd")) for _ in range(1000)] == [True, *[False] * 999]
    assert bound.filter(line("other"))
    now = 61.0
    again = line("odd")
    assert bound.filter(again)
    assert again.getMessage() == "odd (and 999 times before)"
    assert not bound.filter(line("odd"))
