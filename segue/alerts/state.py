"""What people and channels have said of incidents: threads, acknowledgements, mutes. Survives restarts."""

from dataclasses import dataclass
from datetime import datetime

from segue.alerts.slack_bot import Posted
from segue.clock import from_warehouse, to_warehouse
from segue.errors import BadInputError
from segue.quality import data_incidents
from segue.warehouse import Connection, has_table, insert_rows
from segue.watch import Anomaly, incidents

_TABLES = {
    "threads": ("incident_id varchar", "channel varchar", "channel_id varchar", "ts varchar", "posted_at timestamp"),
    "acknowledgements": ("incident_id varchar", "acknowledged_by varchar", "acknowledged_at timestamp"),
    "mutes": (
        "kpi varchar", "slice varchar", "until_at timestamp", "muted_by varchar", "reason varchar",
        "muted_at timestamp",
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Mute:
    """Series that nobody is told of until a time. An empty KPI or slice means every one."""

    kpi: str
    slice: str
    until: datetime  # aware UTC
    by: str
    reason: str

    def covers(self, anomaly: Anomaly, as_of: datetime) -> bool:
        """Whether nobody is told of this anomaly at that time."""
        return self.until > as_of and self.kpi in ("", anomaly.kpi) and self.slice in ("", anomaly.slice)

    def covers_everything(self, as_of: datetime) -> bool:
        """Whether nobody is told of anything at that time."""
        return self.until > as_of and not self.kpi and not self.slice


def ensure_state(con: Connection) -> None:
    """Create the tables where they are missing."""
    con.execute("create schema if not exists alerts")
    for name, columns in _TABLES.items():
        con.execute(f"create table if not exists alerts.{name} ({', '.join(columns)})")


def threads(con: Connection) -> dict[tuple[str, str], tuple[Posted, datetime]]:
    """By incident and channel, the message that it was first told with, and when."""
    if not has_table(con, "alerts", "threads"):
        return {}
    rows = con.execute("select incident_id, channel, channel_id, ts, posted_at from alerts.threads").fetchall()
    return {
        (incident, channel): (Posted(channel_id=channel_id, ts=ts), from_warehouse(at))
        for incident, channel, channel_id, ts, at in rows
    }


def keep_thread(con: Connection, incident_id: str, channel: str, posted: Posted | None, as_of: datetime) -> None:
    """Remember the first message of an incident; later ones change nothing. Without threads the ts is empty."""
    ensure_state(con)
    if (incident_id, channel) not in threads(con):
        row = (incident_id, channel, posted.channel_id if posted else "", posted.ts if posted else "")
        names = [column.split()[0] for column in _TABLES["threads"]]
        insert_rows(con, "alerts.threads", names, [(*row, to_warehouse(as_of))])


def acknowledge(con: Connection, incident_id: str, *, by: str, as_of: datetime) -> None:
    """Somebody is on it: nobody else is called. Twice is once.

    Raises:
        BadInputError: when there is no such incident.
    """
    ensure_state(con)
    if not incidents(con, ids=[incident_id]) and not data_incidents(con, ids=[incident_id]):
        raise BadInputError(
            f"there is no incident {incident_id!r}",
            fix="`segue anomalies incidents` and `segue quality incidents` show them",
        )
    if incident_id not in acknowledged(con):
        names = [column.split()[0] for column in _TABLES["acknowledgements"]]
        insert_rows(con, "alerts.acknowledgements", names, [(incident_id, by, to_warehouse(as_of))])


def acknowledged(con: Connection) -> frozenset[str]:
    """Incidents that somebody is on."""
    if not has_table(con, "alerts", "acknowledgements"):
        return frozenset()
    return frozenset(row[0] for row in con.execute("select incident_id from alerts.acknowledgements").fetchall())


def mute(con: Connection, *, kpi: str, slice_: str, until: datetime, by: str, reason: str, as_of: datetime) -> None:
    """Tell nobody of these series until a time.

    Raises:
        BadInputError: when the time has passed already.
    """
    if until <= as_of:
        raise BadInputError(f"{until.isoformat()} has passed", fix="give an end that lies ahead, such as 2026-03-31")
    ensure_state(con)
    names = [column.split()[0] for column in _TABLES["mutes"]]
    row = (kpi, slice_, to_warehouse(until), by, reason, to_warehouse(as_of))
    insert_rows(con, "alerts.mutes", names, [row])


def unmute(con: Connection, *, kpi: str, slice_: str) -> int:
    """End the mutes of exactly these series; returns how many there were."""
    if not has_table(con, "alerts", "mutes"):
        return 0
    rows = con.execute("select count(*) from alerts.mutes where kpi = $1 and slice = $2", [kpi, slice_]).fetchall()
    con.execute("delete from alerts.mutes where kpi = $1 and slice = $2", [kpi, slice_])
    return int(rows[0][0])


def mutes(con: Connection) -> tuple[Mute, ...]:
    """All of them, those that have ended too, latest end first."""
    if not has_table(con, "alerts", "mutes"):
        return ()
    rows = con.execute(
        "select kpi, slice, until_at, muted_by, reason from alerts.mutes order by until_at desc"
    ).fetchall()
    return tuple(Mute(kpi=k, slice=s, until=from_warehouse(u), by=b, reason=r) for k, s, u, b, r in rows)
