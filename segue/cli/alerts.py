"""`segue anomalies` and `segue alerts`: what was found, who was told, and a test of the channels."""

from typing import Annotated

import typer

from segue.cli.console import Format, OutputFormat, moment, out, print_rows, settings, warehouse

anomalies_app = typer.Typer(no_args_is_help=True, help="Days on which a KPI was not as expected.")
alerts_app = typer.Typer(no_args_is_help=True, help="Who was told what; and a test of the channels.")

Severity = Annotated[str, typer.Option("--severity", help="The least severity to show: low, medium or high.")]


def register(root: typer.Typer) -> None:
    """Add this room's commands to `segue`."""
    root.add_typer(anomalies_app, name="anomalies")
    root.add_typer(alerts_app, name="alerts")


@anomalies_app.command("list")
def list_anomalies(severity: Severity = "low", format: OutputFormat = Format.table) -> None:
    """Every anomaly on record, most severe first."""
    from segue.errors import BadInputError
    from segue.watch import SEVERITIES, amount, anomalies, name_of

    level = next((known for known in SEVERITIES if known == severity), None)
    if level is None:
        raise BadInputError(f"{severity!r} is no severity", fix=f"use one of {', '.join(SEVERITIES)}")
    with warehouse().read() as con:
        found = anomalies(con, min_severity=level)
    if format is Format.table:
        rows = [
            (
                a.severity,
                a.first_date,
                a.day_count,
                name_of(a.kpi, a.slice, a.label),
                amount(a.value, kpi=a.kpi, kind=a.kind),
                amount(a.expected, kpi=a.kpi, kind=a.kind),
            )
            for a in found
        ]
        print_rows(
            ["severity", "since", "days", "what", "value", "expected"], rows, format, none="nothing unusual on record"
        )
        return
    columns = ["anomaly_id", "severity", "kpi", "slice", "direction", "first_date", "last_date", "value", "expected"]
    columns += ["lower", "upper", "detected_at"]
    print_rows(columns, [[getattr(a, column) for column in columns] for a in found], format)


@anomalies_app.command("series")
def list_series(format: OutputFormat = Format.table) -> None:
    """Every series: whether it is watched, why not, and the smallest change of one day that would be noticed."""
    from segue.warehouse import has_table

    columns = ["kpi", "slice", "status", "detectable_change", "detail"]
    with warehouse().read() as con:
        query = f"select {', '.join(columns)} from watch.series order by status <> 'judged', kpi, slice"
        rows = con.execute(query).fetchall() if has_table(con, "watch", "series") else []
    if format is Format.table:
        rows = [(k, s, status, "" if c is None else f"{100 * c:.0f} %", detail) for k, s, status, c, detail in rows]
    print_rows(columns, rows, format)


@anomalies_app.command("incidents")
def list_incidents(format: OutputFormat = Format.table) -> None:
    """What moved together, latest first: one incident, one alert."""
    from segue.alerts.message import series_count
    from segue.watch import change_of, incidents, name_of

    with warehouse().read() as con:
        found = incidents(con)
    columns = ["incident_id", "since", "until", "status", "severity", "series", "what", "change", "explained_by_data"]
    rows = [
        (
            i.incident_id, i.first_date, i.last_date, i.status, i.severity, series_count(i.anomalies),
            name_of(i.lead.kpi, i.lead.slice, i.lead.label), change_of(i.lead), i.data_cause,
        )
        for i in found
    ]  # fmt: skip
    print_rows(columns, rows, format, none="no incident on record")


@anomalies_app.command("dismiss")
def dismiss_anomaly(
    anomaly: Annotated[
        str, typer.Argument(help="Its id, from `segue anomalies list --format json` or from the alert.")
    ],
    reason: Annotated[str, typer.Option(help="Why it is none; for those who come after.")] = "",
) -> None:
    """It was none: it is shown and told no more, its days teach nothing, and its series is judged more strictly."""
    from segue.watch import dismiss

    now = moment(None)
    with warehouse().write("dismiss an anomaly") as con:
        dismiss(con, anomaly, by=_who(), reason=reason, as_of=now)
    out.print("dismissed; `segue anomalies restore` takes it back")


@anomalies_app.command("restore")
def restore_anomaly(anomaly: Annotated[str, typer.Argument(help="Its id.")]) -> None:
    """Take a dismissal back."""
    from segue.watch import restore

    with warehouse().write("restore an anomaly") as con:
        restore(con, anomaly)


@anomalies_app.command("precision")
def show_precision(format: OutputFormat = Format.table) -> None:
    """Per KPI, how much of what was found was something, by what people have dismissed."""
    from segue.watch import precision

    with warehouse().read() as con:
        rows = [(p.kpi, p.found_count, p.dismissed_count, round(p.precision, 3)) for p in precision(con)]
    print_rows(["kpi", "found", "dismissed", "precision"], rows, format)


@alerts_app.command("ack")
def ack(incident: Annotated[str, typer.Argument(help="Its id, from the alert.")]) -> None:
    """You are on it: nobody else is called."""
    from segue.alerts import acknowledge

    now = moment(None)
    with warehouse().write("acknowledge an incident") as con:
        acknowledge(con, incident, by=_who(), as_of=now)
    out.print("noted; it is not escalated")


Kpi = Annotated[str, typer.Option("--kpi", help="Name of the KPI; left out: every KPI.")]
Slice = Annotated[str, typer.Option("--slice", help="Such as platform=web; left out: every slice.")]


@alerts_app.command("mute")
def mute(
    until: Annotated[str, typer.Option(help="UTC time at which it ends, ISO 8601. There is no mute without an end.")],
    kpi: Kpi = "",
    slice: Slice = "",
    reason: Annotated[str, typer.Option(help="Why; for those who wonder.")] = "",
) -> None:
    """Tell nobody of these series until a time. They are watched all the same."""
    from segue.alerts import mute as put

    now = moment(None)
    with warehouse().write("mute alerts") as con:
        put(con, kpi=kpi, slice_=slice, until=moment(until), by=_who(), reason=reason, as_of=now)


@alerts_app.command("unmute")
def unmute(kpi: Kpi = "", slice: Slice = "") -> None:
    """End the mutes of exactly these series."""
    from segue.alerts import unmute as end

    with warehouse().write("unmute alerts") as con:
        count = end(con, kpi=kpi, slice_=slice)
    out.print(f"{count} ended")


@alerts_app.command("mutes")
def list_mutes(format: OutputFormat = Format.table) -> None:
    """What is muted, until when, by whom and why."""
    from segue.alerts import mutes

    with warehouse().read() as con:
        rows = [(m.kpi or "every", m.slice or "every", m.until, m.by, m.reason) for m in mutes(con)]
    print_rows(["kpi", "slice", "until", "by", "reason"], rows, format)


def _who() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container without a name for its user
        return "somebody"


@alerts_app.command("list")
def list_alerts(format: OutputFormat = Format.table) -> None:
    """Every announcement: what, where to, when, how it went. Latest first."""
    from segue.warehouse import has_table

    columns = ["created_at", "channel", "status", "kind", "subjects", "attempts", "title", "detail"]
    query = """
        select
            min(created_at), channel, status, kind, count(*), max(attempts),
            any_value(payload ->> 'title'), any_value(detail)
        from alerts.announcements
        group by alert_id, channel, status, kind
        order by 1 desc, 2
    """
    with warehouse().read() as con:
        rows = con.execute(query).fetchall() if has_table(con, "alerts", "announcements") else []
    print_rows(columns, rows, format, none="nobody has been told of anything yet")


@alerts_app.command("test")
def test() -> None:
    """Send an invented alert to every channel that is set, and say where it went."""
    from segue.alerts import DeliveryError, send_sample

    report = send_sample(settings(), as_of=moment(None))
    for sent in report.sent:
        out.print(f"{sent.channel}: sent, {sent.where}", markup=False, highlight=False, soft_wrap=True)
    if report.not_sent:
        raise DeliveryError("; ".join(f"{n.channel}: {n.reason}" for n in report.not_sent))
