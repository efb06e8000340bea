"""Tell people what happened: Slack, e-mail, or a folder.

Promises: each anomaly, each fault of the data and each failure reaches each channel once, whoever asks and however
often; what has one cause is one message; a sender that dies is found out and repeated once at most. No value from the
data can mention, link, mark up or inject. A channel that is down delays nothing else.
Never: puts a webhook or a password into a message, a log, an error or the warehouse; holds the warehouse's
writer lock while it talks to the world.
"""

from segue.alerts.announce import (
    AnnounceReport,
    NotSent,
    Pending,
    Sent,
    announce,
    announce_failure,
    pending,
    pending_key,
    send_sample,
)
from segue.alerts.channels import channels_of
from segue.alerts.compose import reasons
from segue.alerts.errors import DeliveryError
from segue.alerts.ledger import ensure_tables
from segue.alerts.message import Alert, Item, anomaly_alert, check_failed_alert, run_failed_alert
from segue.alerts.policy import Policy, load_policy
from segue.alerts.state import Mute, acknowledge, acknowledged, mute, mutes, unmute
from segue.alerts.what_else import what_else

__all__ = [
    "Alert",
    "AnnounceReport",
    "DeliveryError",
    "Item",
    "Mute",
    "NotSent",
    "Pending",
    "Policy",
    "Sent",
    "acknowledge",
    "acknowledged",
    "announce",
    "announce_failure",
    "anomaly_alert",
    "channels_of",
    "check_failed_alert",
    "ensure_tables",
    "load_policy",
    "mute",
    "mutes",
    "pending",
    "pending_key",
    "reasons",
    "run_failed_alert",
    "send_sample",
    "unmute",
    "what_else",
]
