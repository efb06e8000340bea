"""Slack by bot token: messages with a chart, updates and recovery in their thread.

The token needs the scopes `chat:write` and `files:write`; with `channels:history` (`groups:history` for private ones) a
message that was cut off is looked for before it is sent again, so that it is there exactly once.
"""

import logging
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.http_retry.builtin_handlers import ConnectionErrorRetryHandler, ServerErrorRetryHandler
from slack_sdk.http_retry.handler import RetryHandler

from segue.alerts import slack
from segue.alerts.errors import DeliveryError
from segue.alerts.message import Alert

log = logging.getLogger(__name__)

_EVENT = "segue_alert"
_TIMEOUT_SECONDS = 15
#: Errors that go away; any other one is somebody's to mend.
_PASSING = {
    "ratelimited",
    "internal_error",
    "fatal_error",
    "service_unavailable",
    "request_timeout",
    "team_added_to_org",
}
_FIXES = {
    "channel_not_found": "check the channel; the bot has to be in it: /invite it",
    "not_in_channel": "invite the bot to the channel: /invite @NAME",
    "is_archived": "choose another channel",
    "invalid_auth": "set SEGUE_SLACK_TOKEN to the bot token of the app (xoxb-…)",
    "not_authed": "set SEGUE_SLACK_TOKEN to the bot token of the app (xoxb-…)",
    "token_revoked": "install the app again and set SEGUE_SLACK_TOKEN",
    "missing_scope": "give the app the scopes chat:write and files:write, and install it again",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Posted:
    """A message that Slack has taken."""

    channel_id: str
    ts: str  # what a reply in its thread refers to


class Bot:
    """One token.

    Args:
        token: starts with xoxb-; shows up in no error and no log.
        base_url: Slack's API.
    """

    def __init__(self, token: str, *, base_url: str) -> None:
        quiet = logging.getLogger(f"{__name__}.client")
        quiet.setLevel(logging.CRITICAL)  # the client logs whole payloads
        handlers: list[RetryHandler] = [ConnectionErrorRetryHandler(max_retry_count=1)]
        handlers.append(ServerErrorRetryHandler(max_retry_count=2))
        self._client = WebClient(
            token=token,
            base_url=base_url.rstrip("/") + "/",
            timeout=_TIMEOUT_SECONDS,
            logger=quiet,
            retry_handlers=handlers,
        )

    def post(self, alert: Alert, channel: str, *, thread: Posted | None = None, again: bool = False) -> Posted:
        """Post the alert, with its chart in the thread.

        Args:
            channel: id or #name.
            thread: reply to this message instead of starting a new one.
            again: an earlier attempt was cut off: look whether it arrived.

        Raises:
            DeliveryError: with Slack's word for the reason; `retry_after` when Slack asked to wait.
        """
        if again and (found := self._find(alert, channel, thread)) is not None:
            return found
        payload = slack.render(alert)
        answer = self._call(
            "chat_postMessage",
            channel=thread.channel_id if thread else channel,
            text=payload["text"],
            blocks=payload["blocks"],
            thread_ts=thread.ts if thread else None,
            unfurl_links=False,
            unfurl_media=False,
            metadata={"event_type": _EVENT, "event_payload": {"alert_id": alert.alert_id}},
        )
        posted = Posted(channel_id=str(answer["channel"]), ts=str(answer["ts"]))
        self._charts(alert, posted if thread is None else thread)
        return posted

    def _charts(self, alert: Alert, root: Posted) -> None:
        """The first chart; words without a picture are better than the words twice."""
        chart = next((item.chart for item in alert.items if item.chart is not None), alert.overview)
        if chart is None:
            return
        try:
            self._call(
                "files_upload_v2",
                channel=root.channel_id,
                thread_ts=root.ts,
                filename="chart.png",
                title=alert.title,
                alt_txt=alert.summary[:1000],
                content=chart,
            )
        except DeliveryError as error:
            log.warning("the chart could not be uploaded: %s", error.message)

    def _find(self, alert: Alert, channel: str, thread: Posted | None) -> Posted | None:
        """The message with this alert, should it have arrived; None when it has not or nobody can say.

        Slack looks into channels by id only, so a channel that is set by its #name cannot be asked.
        """
        where = {"channel": thread.channel_id, "ts": thread.ts} if thread else {"channel": channel}
        try:
            answer = self._call(
                "conversations_replies" if thread else "conversations_history",
                **where,
                oldest=str(_seconds(alert.as_of)),
                include_all_metadata=True,
                limit=200,
            )
        except DeliveryError as error:
            if error.retry_after is not None:
                raise
            return None
        for message in answer.get("messages") or []:
            metadata = message.get("metadata") or {}
            if metadata.get("event_type") == _EVENT and metadata["event_payload"].get("alert_id") == alert.alert_id:
                return Posted(channel_id=where["channel"], ts=str(message["ts"]))
        return None

    def _call(self, method: str, **arguments: Any) -> Any:
        try:
            return getattr(self._client, method)(**arguments)
        except SlackApiError as error:
            answer = error.response
            word = str(answer.get("error") or "unknown") if isinstance(answer.data, dict) else "no JSON"
            status = answer.status_code
            wait = _retry_after(answer.headers) if status == 429 else None
            passing = status == 429 or status >= 500 or word in _PASSING
            raise DeliveryError(
                f"Slack answered {word}",
                fix="it is tried again" if passing else _FIXES.get(word, "see Slack's documentation of this error"),
                is_final=not passing,
                retry_after=wait,
            ) from None
        except (SlackClientError, OSError, ValueError) as error:
            raise DeliveryError(f"{type(error).__name__} while talking to Slack", fix="it is tried again") from None


def _retry_after(headers: Any) -> float:
    for name, value in dict(headers or {}).items():
        if str(name).lower() == "retry-after":
            text = value[0] if isinstance(value, list) else value
            try:
                return max(float(text), 1.0)
            except ValueError:
                break
    return 60.0


def _seconds(moment: datetime) -> float:
    """A little before: clocks differ."""
    return moment.timestamp() - 86_400
