"""Dead letters sent again."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from segue.serving.endpoints import Endpoint
from segue.serving.post import Poster, Verdict
from segue.serving.webhooks import Webhooks
from segue.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What came of it; `error` is what the receiver said of the last one that stays."""

    taken: int
    left: int
    error: str = ""


async def replay(settings: Settings, kept: Webhooks, to: Endpoint, *, clock: Callable[[], datetime]) -> Replay:
    """Send every dead letter of an endpoint once, oldest first.

    After a refusal the same person's later letters are not tried, so that they stay in order; when nothing can be
    delivered at all, it ends.
    """
    poster = Poster(allow_private=settings.webhook_allow_private)
    taken, error, refused = 0, "", set()
    letters = kept.dead(to.name)
    try:
        for letter in letters:
            if letter.transition.person_id in refused:
                continue
            attempt = await poster.transition(to, letter.transition, now=clock())
            if attempt.verdict is Verdict.TAKEN:
                kept.exhume(to.name, letter)
                taken += 1
                continue
            error = attempt.error
            refused.add(letter.transition.person_id)
            if attempt.verdict is Verdict.AWAY:
                break
    finally:
        await poster.close()
    return Replay(taken=taken, left=len(letters) - taken, error=error)
