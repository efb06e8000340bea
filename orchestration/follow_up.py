"""What goes on after a segment has failed: everything that can work with its last good state."""

from collections.abc import Mapping

import dagster as dg

from orchestration.keys import SEGMENTS_STEP

#: Metadata of a failure that concerns one definition and nothing else.
ALONE = "segue/fails_alone"


def held_up(instance: dg.DagsterInstance, run_id: str) -> list[dg.AssetKey]:
    """The assets that a failed run had planned and did not reach because single segments failed.

    None when anything else failed: what follows would work with a state that is not that of the run. None either when
    the run has built nothing: then there is nothing new to go on with.
    """
    failed = {
        event.step_key
        for event in _events(instance, run_id, dg.DagsterEventType.STEP_FAILURE)
        if event.step_key == SEGMENTS_STEP or ALONE in _metadata(event)
    }
    if len(failed) < len(_events(instance, run_id, dg.DagsterEventType.STEP_FAILURE)):
        return []
    made = {event.asset_key for event in _events(instance, run_id, dg.DagsterEventType.ASSET_MATERIALIZATION)}
    if not failed or not made:
        return []
    planned = _events(instance, run_id, dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED)
    wanted = {event.asset_key for event in planned if event.asset_key and event.step_key not in failed}
    return sorted(key for key in wanted - made if key is not None)


def _events(instance: dg.DagsterInstance, run_id: str, kind: dg.DagsterEventType) -> list[dg.DagsterEvent]:
    records = instance.get_records_for_run(run_id, of_type=kind).records
    return [r.event_log_entry.dagster_event for r in records if r.event_log_entry.dagster_event is not None]


def _metadata(event: dg.DagsterEvent) -> Mapping[str, object]:
    data = event.step_failure_data.user_failure_data
    return data.metadata if data is not None else {}
