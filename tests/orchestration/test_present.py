"""What Dagster shows of names that come from events."""

from orchestration import present


def test_bad_input_a_name_is_no_link_no_picture_from_elsewhere_and_no_html() -> None:
    hostile = "![x](https://evil.example/a.png) [y](javascript:z) <img src=x> a\\|b `c|d` &lt; e\nf \u202eg"
    text = present.table(["event"], [[hostile]]).md_str
    assert text is not None
    [_, _, row] = text.splitlines()
    assert row == (
        "| !\\[x\\](https://evil.example/a.png) \\[y\\](javascript:z) \\<img src=x\\> a\\\\\\|b \\`c\\|d\\` "
        "\\&lt; e f \\u202eg |".replace("\\u202e", "\\\\u202e")
    )
    shown = present.picture(b"", title="a](https://evil.example)").md_str or ""
    assert shown.startswith("![a\\](https://evil.example)](data:image/png")


def test_ordinary_names_stay_as_they_are() -> None:
    assert (present.table(["segment"], [["power_users", 1_000, None]]).md_str or "").endswith(
        "| power_users | 1,000 |  |"
    )
