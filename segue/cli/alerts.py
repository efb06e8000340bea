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
                name_of(a.kpi, a.slice),
                amount(a.value, kpi=a.kpi, kind=a.kind),
                amount(a.expected, kpi=a.kpi, kind=a.kind),
            )
            for a in found
        ]
        print_rows(["severity", "since", "days", "what", "value", "expected"], rows, format)
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
    print_rows(columns, rows, format)


@alerts_app.command("test")
def test() -> None:
    """Send an invented alert to every channel that is set, and say where it went."""
    from segue.alerts import DeliveryError, send_sample

    report = send_sample(settings(), as_of=moment(None))
    for sent in report.sent:
        out.print(f"{sent.channel}: sent, {sent.where}", markup=False, highlight=False, soft_wrap=True)
    if report.not_sent:
        raise DeliveryError("; ".join(f"{n.channel}: {n.reason}" for n in report.not_sent))
