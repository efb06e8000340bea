"""The ways out, chosen by the settings and by who answers for a thing."""

from collections.abc import Callable
from dataclasses import dataclass

from segue.alerts import folder, mail, slack
from segue.alerts.message import Alert
from segue.alerts.policy import Place
from segue.alerts.slack_bot import Bot, Posted
from segue.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """Where a message went, and what an update to it refers to."""

    where: str
    posted: Posted | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """Carries an alert; `deliver` raises DeliveryError when it was not taken.

    `name` is what the ledger knows it by: slack, email or folder, with the address when it is not the default one.
    `deliver(alert, thread, again)`: as a reply to `thread`, where the channel has threads; `again` after an attempt
    that was cut off.
    """

    name: str
    deliver: Callable[[Alert, Posted | None, bool], Delivered]
    has_threads: bool = False


def channels_of(settings: Settings, place: Place = Place()) -> list[Channel]:  # noqa: B008 — frozen
    """Slack and e-mail where they are set, at this place; without either, a folder under the home.

    Raises:
        BadSettingError: when an address cannot be used.
    """
    found = []
    if settings.slack_token is not None and (settings.slack_channel or place.slack):
        bot = Bot(settings.slack_token.get_secret_value(), base_url=settings.slack_api_url)
        found.append(_bot_channel(bot, place.slack or settings.slack_channel, place.slack))
    elif settings.slack_webhook_url is not None:
        webhook = settings.slack_webhook_url.get_secret_value()
        found.append(Channel(name="slack", deliver=lambda alert, _thread, _again: _to_slack(alert, webhook)))
    if settings.smtp_url is not None:
        server = mail.parse_server(settings.smtp_url.get_secret_value())
        to = mail.receivers(place.email or settings.email_to)
        name = f"email:{place.email}" if place.email else "email"
        found.append(
            Channel(name=name, deliver=lambda alert, _thread, _again: _to_mail(alert, server, settings.email_from, to))
        )
    return found or [folder_of(settings)]


def folder_of(settings: Settings) -> Channel:
    """The folder `alerts` under the home."""

    def deliver(alert: Alert, _thread: Posted | None, _again: bool) -> Delivered:
        to = [address.strip() for address in settings.email_to.split(",") if address.strip()]
        where = folder.write(alert, settings.home / "alerts", sender=settings.email_from, to=to)
        return Delivered(where=str(where / "preview.html"))

    return Channel(name="folder", deliver=deliver)


def _bot_channel(bot: Bot, channel: str, routed: str) -> Channel:
    def deliver(alert: Alert, thread: Posted | None, again: bool) -> Delivered:
        posted = bot.post(alert, channel, thread=thread, again=again)
        return Delivered(where=f"{channel}, {'in its thread' if thread else 'a new message'}", posted=posted)

    return Channel(name=f"slack:{routed}" if routed else "slack", deliver=deliver, has_threads=True)


def _to_slack(alert: Alert, webhook: str) -> Delivered:
    slack.post(slack.render(alert), webhook)
    return Delivered(where="the channel of the webhook")


def _to_mail(alert: Alert, server: mail.Server, sender: str, to: list[str]) -> Delivered:
    return Delivered(where=mail.send(mail.compose(alert, sender=sender, to=to), server))
