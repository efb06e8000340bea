"""Normal forms, the key they are hashed with, and the rules of one YAML."""

import ast
import os
import re
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from segue.errors import BadSettingError, DefinitionError
from segue.identifiers import ID_COLUMNS, TYPES, Normaliser, load_key, load_rules
from segue.private import changing_records
from segue.settings import PROJECT_ROOT, Settings


def settings(home: Path, **more: object) -> Settings:
    return Settings(home=home, _env_file=None, **more)  # type: ignore[arg-type, call-arg]


def test_a_home_makes_its_key_once_and_for_the_owner_alone(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: load_key(settings(tmp_path)), range(16)))
    assert len(keys) == 1
    (path,) = (tmp_path / "keys").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_key(settings(tmp_path / "other")) not in keys


def test_a_power_cut_takes_neither_the_key_nor_a_change_of_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[tuple[str, list[str]]] = []  # of each folder that was synced, what was in it then

    def fsync(handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").readlink()
        if path.is_dir():
            names.append((path.name, sorted(found.name for found in path.iterdir())))

    monkeypatch.setattr(os, "fsync", fsync)
    load_key(Settings(home=tmp_path / "home", _env_file=None))  # type: ignore[call-arg]
    assert [name for name, _ in names] == [tmp_path.name, "home", "keys"]
    assert names[-1] == ("keys", ["identity.key"])
    names.clear()
    with changing_records(tmp_path / "home" / "keys" / "records.json", str) as records:
        records.append("new")
    assert names == [("keys", [".lock", "identity.key", "records.json"])]


def test_the_environment_gives_the_key(tmp_path: Path) -> None:
    assert load_key(settings(tmp_path, identity_key="0123456789abcdef")) == b"0123456789abcdef"
    assert not (tmp_path / "keys").exists()
    with pytest.raises(BadSettingError, match="can be guessed"):
        load_key(settings(tmp_path, identity_key="short"))


def test_an_address_is_hashed_with_the_key_whatever_its_case_and_blanks() -> None:
    one, other = Normaliser(b"one key of a home"), Normaliser(b"another key of it")
    assert one.email(" Ann@Example.com ") == one.email("ann@example.com")
    assert len(one.email("ann@example.com")) == 64
    assert one.email("ann@example.com") != other.email("ann@example.com")
    assert "one key" not in repr(one)


@pytest.mark.parametrize(
    ("text", "country", "number"),
    [
        ("(201) 555-0123", "US", "+12015550123"),
        ("+1 201 555 0123", "DE", "+12015550123"),
        ("0151 12345678", "de", "+4915112345678"),
        ("call me", "US", None),
        ("12", "US", None),
        ("0151 12345678", "not a country", None),
    ],
)
def test_a_telephone_number_is_e164(text: str, country: str, number: str | None) -> None:
    assert Normaliser(b"a key").phone(text, country) == number


def test_the_columns_of_identifiers_are_those_of_the_macro() -> None:
    text = (PROJECT_ROOT / "dbt_project" / "macros" / "identity.sql").read_text()
    said = re.search(r"macro identifier_columns\(\) -%\}\s*\{\{- return\((\{.*?\})\) -\}\}", text, re.DOTALL)
    assert said is not None
    assert ast.literal_eval(said.group(1)) == ID_COLUMNS
    assert sorted(ID_COLUMNS.values()) == sorted(TYPES)


def test_the_shipped_rules_can_be_read() -> None:
    rules = load_rules(PROJECT_ROOT / "dbt_project")
    assert rules.of("user_id").max_per_person == 1
    assert rules.of("loyalty").max_per_person == 5
    assert "null" in rules.of("device_id").blocked
    assert "test@%" in rules.of("email").blocked


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("largest_person: many", "identity.largest_person is 'many'"),
        ("shared_device_users: 1", "a whole number from 2"),
        ("largest: 5", "identity.largest is 5"),
        ("blocked: [null]", "put quotes around values such as null"),
        ("types: {email: {max: 5}}", "identity.types.email.max"),
        ("types: {email: 5}", "identity.types.email is 5"),
        ("[]", "should be a mapping"),
    ],
)
def test_a_rule_that_cannot_be_used_is_named(tmp_path: Path, text: str, says: str) -> None:
    lines = "\n".join(f"    {line}" for line in text.splitlines())
    (tmp_path / "dbt_project.yml").write_text(f"name: x\nvars:\n  identity:\n{lines}\n")
    with pytest.raises(DefinitionError, match=says.replace("[", r"\[")):
        load_rules(tmp_path)
