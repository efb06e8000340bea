"""A definition that breaks goes on as it was, across restarts too; one that is removed goes."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from segue.models import BrokenModel, Model, Project
from segue.realtime.engine import Engine
from segue.realtime.last_good import keep_last_good, remember, remembered
from tests.realtime.test_engine import HORIZON, track
from tests.realtime.world import START, Remembered, raw_events


def without(project: Project, *names: str, broken: bool = True) -> Project:
    """The project as it is published after these definitions were spoilt, or removed."""
    left = tuple(
        BrokenModel(name=name, path=f"models/{name}.sql", reason=f"{name}.sql: no such column.", fix="mend it")
        for name in names
        if broken
    )
    return replace(project, models=tuple(m for m in project.models if m.name not in names), broken=left)


def seen(*users: str) -> pa.Table:
    return raw_events([track(n, START, user_id=user) for n, user in enumerate(users)])


def everybody(engine: Engine, store: Remembered) -> None:
    while (update := engine.pass_step(engine.as_of, rows=100)) is not None:
        store.apply(update)


def test_a_broken_segment_is_evaluated_as_before_and_named(hard_project: Project) -> None:
    kept = keep_last_good(without(hard_project, "seen_today"), hard_project)
    assert kept.broken == {"seen_today": "seen_today.sql: no such column."}
    assert kept.project.broken == ()
    assert {m.name for m in kept.project.models} == {m.name for m in hard_project.models}
    engine, store = Engine(hard_project, horizon_seconds=HORIZON), Remembered()
    store.apply(engine.batch(seen("u1"), START))
    assert engine.redefine(kept.project, held=lambda _relation: None)
    engine.start_pass("definition")
    everybody(engine, store)
    told = len(store.told)
    store.apply(engine.batch(raw_events([track(9, START, user_id="u2")]), START))
    assert all("seen_today" in names for names in store.memberships().values())
    assert {t.change for t in store.told[told:]} == {"entered"}


def test_what_is_broken_in_the_middle_takes_its_readers_along_as_they_were(hard_project: Project) -> None:
    readers = [m.name for m in hard_project.models if "person_features" in m.depends_on]
    kept = keep_last_good(without(hard_project, "person_features", *readers), hard_project)
    assert kept.broken.keys() == {"person_features", *readers}
    order = [m.name for m in kept.project.models]
    assert all(order.index("person_features") < order.index(name) for name in readers)
    Engine(kept.project, horizon_seconds=HORIZON)


def test_what_is_removed_or_was_never_good_goes(hard_project: Project) -> None:
    removed = without(hard_project, "seen_today", broken=False)
    assert keep_last_good(removed, hard_project).project is removed
    spoilt = without(hard_project, "seen_today")
    assert keep_last_good(spoilt, None).project is spoilt
    assert keep_last_good(spoilt, removed).broken == {}


def test_wrong_meta_counts_as_broken(hard_project: Project) -> None:
    inner = hard_project.by_name["seen_today"]
    wrong: Model = replace(inner, meta={"segue": {"priority": "first"}})
    changed = replace(hard_project, models=tuple(wrong if m is inner else m for m in hard_project.models))
    kept = keep_last_good(changed, hard_project)
    assert "priority" in kept.broken["seen_today"]
    assert kept.project.by_name["seen_today"] == inner


def test_the_next_engine_remembers(hard_project: Project, tmp_path: Path) -> None:
    assert remembered(tmp_path, hard_project) is None
    remember(hard_project, tmp_path)
    found = remembered(tmp_path, hard_project)
    assert found is not None
    assert found.models == hard_project.models
    assert found.source_columns == hard_project.source_columns
    (tmp_path / "definitions.json").write_text("{}")
    assert remembered(tmp_path, hard_project) is None


def test_whoever_is_in_a_broken_segment_that_nobody_remembers_stays(hard_project: Project) -> None:
    engine, store = Engine(hard_project, horizon_seconds=HORIZON), Remembered()
    store.apply(engine.batch(seen("u1"), START))
    before = store.memberships()
    later = Engine(without(hard_project, "seen_today"), horizon_seconds=HORIZON)
    later.absorb(seen("u1"), START)
    later.restore(store.people.items())
    later.start_pass("time")
    told = len(store.told)
    everybody(later, store)
    assert store.memberships() == before
    assert len(store.told) == told
