"""Faults of the data as an alert, alone or with the KPIs that moved because of them."""

from collections.abc import Sequence
from datetime import datetime

from segue.alerts.message import LONGEST_TITLE, MOST_ITEMS, Alert, Item, alert_id_of, web_address
from segue.quality import Finding
from segue.watch import SEVERITIES, Severity, clean, day

_SEVERITIES: dict[str, Severity] = {"error": "high", "warning": "medium", "note": "low"}


def fault_alert(
    faults: Sequence[Finding],
    moved: Alert | None,
    *,
    moved_count: int = 0,
    told_count: int = 0,
    is_backlog: bool = False,
    subjects: Sequence[str],
    as_of: datetime,
    url: str | None,
) -> Alert:
    """One alert for these faults and what they moved, the worst fault first.

    Args:
        faults: at least one, the worst first.
        moved: the alert of the KPIs that they explain; its pictures are kept.
        moved_count: how many KPI series that is.
        told_count: KPI series that they explain as well and that were told of before.
        is_backlog: the faults have nothing to do with each other, and what each moved is not told apart.
        subjects: what the ledger calls all of it.
    """
    items = tuple(item_of_fault(fault, str(number)) for number, fault in enumerate(faults))
    lead = faults[0].sentence
    if moved is None:
        shown, left_out = items[:MOST_ITEMS], len(items[MOST_ITEMS:])
        effect = "No KPI has left its expected range with it so far."
        if told_count:
            effect = f"That is why {told_count} KPI series left their expected range, as told before."
        several = f"{len(faults)} things are not as they were in what arrives."
        title, summary = f"Data fault: {lead.rstrip('.')}", f"{several if len(faults) > 1 else lead} {effect}"
    else:
        everything = (*items, *moved.items)
        shown, left_out = everything[:MOST_ITEMS], len(everything[MOST_ITEMS:]) + moved.left_out_count
        title = f"Data fault, {moved_count} KPI series moved with it: {lead.rstrip('.')}"
        summary = (
            f"{lead} That is why {moved_count} KPI series left their expected range: the cause is in what "
            "arrived, not in what people chose."
        )
    if is_backlog:
        effect = (
            f"{moved_count} KPI series moved with them" if moved_count else "no KPI is known to have moved with them"
        )
        title = f"{len(faults)} faults of the data; {effect}"
        summary = f"What arrived was not as it usually is. The first of them: {lead}"
    severities = [*(item.severity for item in items), *([moved.severity] if moved is not None else [])]
    return Alert(
        alert_id=alert_id_of("data_fault", subjects),
        kind="data_fault",
        severity=max(severities, key=SEVERITIES.index),
        title=clean(title, limit=LONGEST_TITLE),
        summary=clean(summary, limit=600),
        items=shown,
        left_out_count=left_out,
        detail="",
        link_text="Open the run in Dagster",
        url=web_address(url),
        as_of=as_of,
        overview=moved.overview if moved is not None else None,
    )


def item_of_fault(fault: Finding, subject_id: str) -> Item:
    """A fault as one item of a message."""
    when = f"on {day(fault.first_date)}"
    if fault.last_date > fault.first_date:
        when = f"{day(fault.first_date, year=False)} – {day(fault.last_date)}"
    severity = _SEVERITIES[fault.weight]
    return Item(
        subject_id=subject_id,
        severity=severity,
        name=clean(fault.subject[:1].upper() + fault.subject[1:], limit=120),
        change=f"({fault.check.replace('_', ' ')})",
        when=when,
        sentence=clean(fault.sentence, limit=600),
        facts=(
            ("What", clean(fault.subject, limit=120)),
            ("Check", fault.check.replace("_", " ")),
            ("When", when),
            ("Severity", severity),
        ),
    )
