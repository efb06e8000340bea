"""The ways out, chosen by the settings."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from segue.alerts import folder, mail, slack
from segue.alerts.message import Alert
from segue.settings import Settings

ChannelName = Literal["slack", "email", "folder"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """Carries an alert; `deliver` returns where it went, in words, or raises DeliveryError."""

    name: ChannelName
    deliver: Callable[[Alert], str]


def channels_of(settings: Settings) -> list[Channel]:
    """Slack and e-mail where they are set; without either, a folder under the home.

    Raises:
        BadSettingError: when an address cannot be used.
    """
    found = []
    if settings.slack_webhook_url is not None:
        webhook = settings.slack_webhook_url.get_secret_value()
        found.append(Channel(name="slack", deliver=lambda alert: _to_slack(alert, webhook)))
    if settings.smtp_url is not None:
        server = mail.parse_server(settings.smtp_url.get_secret_value())
        to = mail.receivers(settings.email_to)
        found.append(Channel(name="email", deliver=lambda alert: _to_mail(alert, server, settings.email_from, to)))
    return found or [folder_of(settings)]


def folder_of(settings: Settings) -> Channel:
    """The folder `alerts` under the home."""

    def deliver(alert: Alert) -> str:
        to = [address.strip() for address in settings.email_to.split(",") if address.strip()]
        return str(folder.write(alert, settings.home / "alerts", sender=settings.email_from, to=to) / "preview.html")

    return Channel(name="folder", deliver=deliver)


def _to_slack(alert: Alert, webhook: str) -> str:
    slack.post(slack.render(alert), webhook)
    return "the channel of the webhook"


def _to_mail(alert: Alert, server: mail.Server, sender: str, to: list[str]) -> str:
    return mail.send(mail.compose(alert, sender=sender, to=to), server)
