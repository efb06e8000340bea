"""Watches over real time: notes how it stands on the graph, and announces what goes wrong, once, and its end."""

import json
from dataclasses import asdict
from datetime import datetime, timedelta

import dagster as dg

from orchestration.keys import LOG, SERVED, WEBHOOKS
from orchestration.resources import Warehouse
from orchestration.supervisor import is_owned
from segue import alerts
from segue.clock import system_time
from segue.errors import BusyError
from segue.settings import load_settings
from segue.valkey import is_running

#: Dagster keeps observations for ever: so often, and when something has changed.
_NOTED_EVERY = timedelta(minutes=5)

#: A tick has 60 seconds, and a refresh writes for minutes.
_PATIENCE = 10.0

_ASSETS = {"log": LOG, "memberships": SERVED, "webhooks": WEBHOOKS}


@dg.sensor(
    name="realtime",
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Notes the log, the engine and the webhooks on the graph; announces lag, dead letters, a dead engine "
    "and broken definitions, and when they are over.",
)
def realtime(context: dg.SensorEvaluationContext, warehouse: Warehouse) -> dg.SensorResult | dg.SkipReason:
    """The cursor has the troubles that last, and what is to be told of them.

    It is saved at the end of a tick, so news are told in the next: a tick that is cut short tells the same
    thing again, by the same id, which the ledger of alerts has once.
    """
    # Here, because it brings the whole of the HTTP service with it, which no run needs.
    from segue.serving import vitals

    settings, now = load_settings(), system_time()
    cursor = json.loads(context.cursor or "{}")
    known = vitals.from_json(cursor.get("incidents", {}))
    untold = [vitals.Announcement(**fields) for fields in cursor.get("untold", [])]
    is_wanted = is_owned(settings)
    if not is_wanted and not known and not untold and not is_running(settings):
        return dg.SkipReason("real time does not run here: `segue up` or `segue realtime` starts it")
    busy = ""
    while untold and not busy:
        one = untold[0]
        try:
            alerts.announce_failure(
                warehouse.core(),
                settings,
                kind="recovered" if one.is_over else "trouble",
                subject_id=one.subject_id,
                title=one.title,
                detail=one.detail,
                url=f"{settings.dagster_url}/assets/realtime/memberships",
                as_of=now,
                patience=_PATIENCE,
            )
            untold = untold[1:]
        except BusyError as error:
            busy = f"; {len(untold)} alerts wait, {error.message}"
    seen = vitals.look(settings)
    lasting, news = vitals.follow(known, vitals.troubles(seen, is_wanted=is_wanted, as_of=now), as_of=now)
    noted = cursor.get("noted")
    events: list[dg.AssetObservation] = []
    if seen.log is not None and (news or noted is None or now - datetime.fromisoformat(noted) >= _NOTED_EVERY):
        noted = now.isoformat()
        events = [dg.AssetObservation(_ASSETS[name], metadata=facts) for name, facts in vitals.facts(seen).items()]
    return dg.SensorResult(
        skip_reason=(", ".join(trouble.title for trouble in lasting.values()) or "all is well") + busy,
        asset_events=events,
        cursor=json.dumps(
            {
                "incidents": vitals.to_json(lasting),
                "noted": noted,
                "untold": [asdict(one) for one in (*untold, *news)],
            }
        ),
    )
