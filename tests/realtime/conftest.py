"""The real dbt project with rules that are hard to follow, compiled once."""

import shutil
from pathlib import Path

import pytest

from segue.models import Project, prepare
from segue.settings import PROJECT_ROOT, Settings

#: Rules whose windows nobody could list: calendar days, boundaries of days, decay, the time of day, ranks, raw JSON.
RULES = {
    "seen_today": "select person_id from {{ ref('person_features') }}"
    " where cast(last_seen_at as date) = cast({{ as_of() }} as date)",
    "one_or_two_days_away": "select person_id from {{ ref('person_features') }}"
    " where date_diff('day', last_seen_at, {{ as_of() }}) between 1 and 2",
    "warm": "select person_id from {{ ref('int_events') }} where person_id is not null group by person_id"
    " having round(sum(exp((epoch_ms(occurred_at) - epoch_ms({{ as_of() }})) / 43200000.0)), 6) > 1.5",
    "awake_now": "select person_id from {{ ref('person_features') }}"
    " where extract(hour from {{ as_of() }}) between 8 and 17 and event_count > 1",
    "last_was_a_page": "select person_id from (select person_id, event_type, row_number() over"
    " (partition by person_id order by occurred_at desc, message_id) as n from {{ ref('int_events') }}"
    " where person_id is not null) where n = 1 and event_type = 'page'",
    "said_gold": "select distinct person_id from {{ ref('int_events') }}"
    " where person_id is not null and json_extract_string(properties, '$.plan') = 'gold'",
    "two_browsers": "select person_id from {{ source('identity', 'identifiers') }}"
    " where identifier_type = 'anonymous_id' group by person_id having count(*) > 1",
}
META = {
    "seen_today": "{exclusive_group: presence, priority: 2}",
    "last_was_a_page": "{exclusive_group: presence, priority: 1, realtime: false}",
    "awake_now": "{exclusive_group: presence, priority: 3}",
}


def write_rules(root: Path, rules: dict[str, str] = RULES) -> None:
    """Add segments to a dbt project."""
    for name, sql in rules.items():
        (root / "models" / "segments" / f"{name}.sql").write_text(sql + "\n")
        if name in META:
            (root / "models" / "segments" / f"{name}.yml").write_text(
                f"models:\n  - name: {name}\n    config: {{meta: {{segue: {META[name]}}}}}\n"
            )


@pytest.fixture(scope="session")
def hard_settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    root = tmp_path_factory.mktemp("hard")
    shutil.copytree(PROJECT_ROOT / "dbt_project", root / "dbt")
    write_rules(root / "dbt")
    return Settings(home=root / "home", dbt_project=root / "dbt", _env_file=None)  # type: ignore[call-arg]


@pytest.fixture(scope="session")
def hard_project(hard_settings: Settings) -> Project:
    project = prepare(hard_settings)
    assert not project.broken, project.broken
    return project
