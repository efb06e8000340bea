"""What the YAML says about a segment is validated, one segment at a time."""

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest

from segue.errors import BadInputError
from segue.models import Project
from segue.segments import definitions
from segue.serving.endpoints import Endpoint, add_endpoint
from segue.settings import Settings


def with_meta(project: Project, name: str, meta: dict[str, Any]) -> Project:
    return replace(project, models=tuple(replace(m, meta=meta) if m.name == name else m for m in project.models))


def test_the_meta_of_a_segment_is_read_and_has_defaults(tiny_project: Project) -> None:
    known = definitions(tiny_project).by_name
    power_users = known["power_users"]
    assert (power_users.priority, power_users.exclusive_group, power_users.min_share) == (10, "engagement", 0.05)
    assert (power_users.owner, power_users.description) == ("growth@example.com", "More than three events.")
    assert (known["absent"].priority, known["absent"].exclusive_group, known["absent"].min_share) == (100, None, 0.01)


@pytest.mark.parametrize(
    ("meta", "said", "fix"),
    [
        ({"priorty": 3}, "unknown key 'priorty'", "did you mean priority?"),
        ({"colour": "red"}, "unknown key 'colour'", "known keys: priority"),
        ({"priority": "high"}, "priority is 'high', not a whole number", "priority: 20"),
        ({"priority": True}, "priority is True", "priority: 20"),
        ({"min_share": 5}, "min_share is 5, not between 0 and 1", "0.01"),
        ({"exclusive_group": ["a"]}, "exclusive_group is ['a']", "engagement"),
        ({"realtime": "yes"}, "realtime is 'yes'", "realtime: true"),
        ({"on_change": {"crm": "x"}}, "not a list of names", "on_change: [crm]"),
        ({"on_change": ["crm!"]}, "holds 'crm!'", "letters, digits"),
        ({"on_change": [3]}, "holds 3", "letters, digits"),
        ({"on_change": ["https://host/?key=s3cret"]}, "on_change holds an address", "segue webhooks add crm URL"),
        ({"on_change": ["crm"], "realtime": False}, "`realtime: false` says", "remove one"),
        (["priority"], "not a mapping", "priority: 10"),
    ],
)
def test_a_wrong_entry_takes_out_its_segment_only_and_says_how_to_mend_it(
    tiny_project: Project, meta: Any, said: str, fix: str
) -> None:
    known = definitions(with_meta(tiny_project, "present", {"segue": meta}))
    assert [s.name for s in known.segments] == ["absent", "power_users"]
    [(name, error)] = known.errors.items()
    assert name == "present"
    assert said in str(error)
    assert "models/segments/present.sql" in str(error)
    assert fix in str(error)


def test_a_segment_names_who_is_called_when_it_changes(tiny_project: Project) -> None:
    for said in ("crm", ["crm"], ["crm", "crm"]):
        found = definitions(with_meta(tiny_project, "present", {"segue": {"on_change": said}}))
        assert found.by_name["present"].on_change == ("crm",)
    assert found.by_name["absent"].on_change == ()


@pytest.mark.parametrize("name", ["crm", "Crm-2.eu_1", "a" * 64, "a" * 65, "-crm", "c r m", "", "crm\n", "über"])
def test_what_yaml_may_call_is_what_can_be_added_as_a_webhook(
    settings: Settings, tiny_project: Project, name: str
) -> None:
    known = definitions(with_meta(tiny_project, "present", {"segue": {"on_change": [name]}}))
    with nullcontext() if "present" in known.by_name else pytest.raises(BadInputError, match="cannot be a name"):
        add_endpoint(settings, Endpoint(name=name, url="https://crm.example.com/"))


def test_a_priority_counts_as_part_of_the_definition_of_its_whole_group(tiny_project: Project) -> None:
    before = definitions(tiny_project).by_name
    after = definitions(
        with_meta(tiny_project, "present", {"segue": {"priority": 5, "exclusive_group": "engagement"}})
    ).by_name
    assert before["power_users"].definition_hash != after["power_users"].definition_hash
    assert before["absent"].definition_hash == after["absent"].definition_hash
