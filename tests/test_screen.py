"""Names come from events: a terminal shows them, and does nothing of what they say."""

import io

from segue.cli import console
from segue.cli.screen import Screen, visible


def test_bad_input_what_a_terminal_would_obey_is_written_out() -> None:
    assert visible("\x1b]0;title\x07 \u202egnp.exe \x9b31m\r") == "\\x1b]0;title\\x07 \\u202egnp.exe \\x9b31m\\r"
    assert visible("Grüße, 日本, 👩\u200d🚀\tand\nmore") == "Grüße, 日本, 👩\u200d🚀\tand\nmore"


def test_bad_input_a_table_and_a_message_show_it_so(monkeypatch, capsys) -> None:  # type: ignore[no-untyped-def]
    screen = Screen(file=io.StringIO(), width=80)
    monkeypatch.setattr(console, "out", screen)
    console.print_rows(["event"], [["\x1b[31mred"], ["[bold]b[/]"]])
    screen.print("[bold]no event[/] named \x1b[2J")
    said = screen.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b" not in said
    assert "\\x1b[31mred" in said
    assert "[bold]b[/]" in said
    assert "no event named \\x1b[2J" in said


def test_a_program_that_reads_csv_gets_the_value_as_it_is(capsys) -> None:  # type: ignore[no-untyped-def]
    console.print_rows(["event"], [["\x1b[31mred"]], console.Format.csv)
    assert capsys.readouterr().out == "event\r\n\x1b[31mred\r\n"
