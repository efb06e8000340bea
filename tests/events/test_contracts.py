"""Contracts: what is checked, and how their own mistakes are told."""

from pathlib import Path

import pytest

from segue.errors import DefinitionError
from segue.events import ingest, load_contracts
from segue.settings import PROJECT_ROOT, Settings
from segue.warehouse import Warehouse

SHIPPED = PROJECT_ROOT / "dbt_project" / "contracts"

CONTRACT = """\
event: Order Completed
description: An order was paid.
owner: shop@example.com
properties:
  order_id:
    type: string
    required: true
  revenue: {type: number, required: true}
  count: {type: integer}
  "gift wrap": {type: boolean}
  currency: {type: string, allowed: [EUR, USD]}
  items: {type: array}
  level: {type: integer, allowed: [1, 2]}
"""


@pytest.fixture
def warehouse(settings: Settings, tmp_path: Path) -> Warehouse:
    folder = tmp_path / "project" / "contracts"
    folder.mkdir(parents=True)
    (folder / "order_completed.yml").write_text(CONTRACT)
    return Warehouse(settings.model_copy(update={"dbt_project": tmp_path / "project"}))


CASES = [
    ({"order_id": "o", "revenue": 1}, None, []),
    (
        {"order_id": "o", "revenue": 1.5, "count": -2, "gift wrap": True, "currency": "EUR", "items": [], "x": {}},
        None,
        [],
    ),
    ({"order_id": "o", "revenue": 1, "count": None, "currency": None, "level": 2}, None, []),
    ({"order_id": "o", "revenue": 18446744073709551616}, None, []),
    (None, "missing_property", ["order_id"]),
    ({"order_id": None, "revenue": 1}, "missing_property", ["order_id", "order_completed.yml"]),
    ({"order_id": "o", "revenue": "12.50"}, "wrong_type", ["revenue", '"12.50"', "number"]),
    ({"order_id": 7, "revenue": 1}, "wrong_type", ["order_id", "7", "string"]),
    ({"order_id": "o", "revenue": 1, "count": 1.5}, "wrong_type", ["count", "1.5", "integer"]),
    ({"order_id": "o", "revenue": 1, "gift wrap": "yes"}, "wrong_type", ["gift wrap", "yes", "boolean"]),
    ({"order_id": "o", "revenue": 1, "items": {}}, "wrong_type", ["items", "array"]),
    ({"order_id": "o", "revenue": 1, "currency": "GBP"}, "value_not_allowed", ["currency", "GBP", "EUR, USD"]),
    ({"order_id": "o", "revenue": 1, "level": 3}, "value_not_allowed", ["level", "3"]),
]


def test_properties_are_held_to_their_contract(warehouse, message, write, query, as_of) -> None:
    write("one.ndjson", [message(n, event="Order Completed", properties=case[0]) for n, case in enumerate(CASES)])
    ingest(warehouse, as_of=as_of)
    loaded = {row[0] for row in query("select message_id from raw.events")}
    refused = {
        line: (reason, detail) for line, reason, detail in query("select line, reason, detail from raw.quarantine")
    }
    for number, (_, reason, words) in enumerate(CASES):
        if reason is None:
            assert f"m-{number}" in loaded
        else:
            found, detail = refused[number + 1]
            assert found == reason
            assert all(word in detail for word in words), detail


def test_an_event_without_contract_may_bring_anything(warehouse, message, write, as_of) -> None:
    write(
        "one.ndjson",
        [message(1, event="It's new", properties={"x": [1]}), message(2, event="It's new", properties=None)],
    )
    assert ingest(warehouse, as_of=as_of).loaded == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("event: [unclosed", ["line 1", "not YAML"]),
        ("", ["empty"]),
        ("event: \x07A\n", ["not YAML", "#x0007"]),
        ("event: A\ndescription: b\n", ["lacks `owner`", "add `owner"]),
        ("description: b\nowner: c\n", ["event: Order Completed"]),
        ("event: A\ntype: page\ndescription: b\nowner: c\n", ["either"]),
        (
            "event: A\ndescription: b\nowner: c\nproperties:\n  x:\n    type: strin\n",
            ["line 6", "strin", "did you mean `string`"],
        ),
        (
            "event: A\ndescription: b\nowner: c\nproperties:\n  x: {type: string, requird: true}\n",
            ["line 5", "did you mean `required`"],
        ),
        (
            "event: A\ndescription: b\nowner: c\nproperties:\n  x: {type: string, required: perhaps}\n",
            ["line 5", "true or false"],
        ),
        (
            "event: A\ndescription: b\nowner: c\nproperties:\n  x: {type: string}\n  x: {type: string}\n",
            ["line 6", "twice"],
        ),
        ("event: A\ndescription: b\nowner: c\nproperties: [x]\n", ["line 4", "mapping"]),
        ("event: A\ndescription: b\nowner: c\nproperties:\n  x: {type: string, allowed: []}\n", ["line 5", "no value"]),
        ("event: A\ndescription: b\nowner: c\nproperties:\n  x: {type: object, allowed: [a]}\n", ["line 5", "object"]),
    ],
)
def test_a_mistake_in_a_contract_names_file_line_and_fix(tmp_path: Path, text: str, words: list[str]) -> None:
    (tmp_path / "broken.yml").write_text(text)
    with pytest.raises(DefinitionError) as caught:
        load_contracts(tmp_path)
    assert "broken.yml" in caught.value.message
    assert caught.value.fix
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_two_contracts_for_one_event_are_refused(tmp_path: Path) -> None:
    for name in ("a.yml", "b.yml"):
        (tmp_path / name).write_text("event: A\ndescription: b\nowner: c\n")
    with pytest.raises(DefinitionError, match=r"b\.yml.*already in a\.yml"):
        load_contracts(tmp_path)


def test_the_shipped_contracts_know_the_vocabulary_and_its_personal_data() -> None:
    contracts = {contract.name: contract for contract in load_contracts(SHIPPED)}
    assert {
        "Signed Up", "Signed In", "Signed Out", "Onboarding Completed", "Product Viewed", "Product Added",
        "Checkout Started",
        "Order Completed", "Search Performed", "Premium Feature Used", "Subscription Started", "Subscription Cancelled",
    } <= set(contracts)  # fmt: skip
    assert {item.name for item in contracts["identify"].properties if item.pii} == {"email", "name"}
    assert all("@" in contract.owner and contract.description for contract in contracts.values())
