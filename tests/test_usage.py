"""A command line that cannot be followed: what is wrong, the fix, where the help is, and exit code 2."""

import pytest
from typer.testing import CliRunner

from segue.cli import app


def answer(*words: str) -> str:
    done = CliRunner().invoke(app, words, prog_name="segue")
    assert done.exit_code == 2
    assert done.stdout == ""
    return done.stderr


@pytest.mark.parametrize(
    ("line", "wrong", "fix"),
    [
        ("segmens list", "there is no command `segue segmens`", "did you mean `segue segments`? `segue --help`"),
        ("segments histroy p_1", "no command `segue segments histroy`", "did you mean `segue segments history`?"),
        ("members", "there is no command `segue members`", "did you mean `segue segments members`? `segue --help`"),
        ("segments explain", "`segue segments explain`", "did you mean `segue identity explain`? the commands of"),
        (
            "segments xyz",
            "`segue segments xyz`",
            "fix: the commands of `segue segments` are list, members, preview, history;",
        ),
        (
            "keys remove",
            "`segue keys remove`",
            "did you mean `segue webhooks remove`? the commands of `segue keys` are",
        ),
        ("xplain", "no command `segue xplain`", "did you mean `segue identity explain`? `segue --help` shows all"),
        ("realtime xyz", "no command `segue realtime xyz`", "the commands of `segue realtime` are status, audit; `"),
        ("xyz", "there is no command `segue xyz`", "the commands of `segue` are config, sql, "),
        ("--verbose", "missing command", "the commands of `segue` are config, sql, "),
        ("sql from raw.events", "extra argument(s) (raw.events)", "quotes around a value with blanks; it is called as"),
        ("check power_users", "extra argument(s) (power_users)", "fix: it is called as `segue check [OPTIONS]`;"),
        ("sql", "missing argument 'query'", "it is called as `segue sql [OPTIONS] {query}`; `segue sql --help` says"),
        ("segments members x --limt 3", "no such option: --limt", "did you mean `--limit`? it is called as `segue"),
        ("--verbos", "no such option: --verbos", "did you mean `--verbose`? it is called as `segue [OPTIONS]"),
        ("sql x --format xml", "invalid value for '--format'", "`segue sql --help` says more"),
        ("sql x --format", "option '--format' requires an argument", "`--help` after a command"),
    ],
)
def test_says_what_is_wrong_and_the_fix(line: str, wrong: str, fix: str) -> None:
    first, last = answer(*line.split()).splitlines()
    assert first.startswith("error ")
    assert wrong in first
    assert last.startswith("  fix: ")
    assert fix in last
    assert "--help` " in last


def test_a_group_alone_shows_its_help() -> None:
    done = CliRunner().invoke(app, ["segments"], prog_name="segue")
    assert "history" in done.output
    assert "error" not in done.output


def test_bad_input_what_was_typed_is_shown_as_text() -> None:
    said = answer("[bold]\x1b[2J" + "x" * 200)
    assert "\x1b[2J" not in said
    assert "[bold]\\x1b[2J" in said
    assert "x" * 81 not in said
