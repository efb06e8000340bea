"""Who is called for which segments: what commands added, what the YAML of segments names, what the environment says."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from segue.errors import BadInputError
from segue.segments import Segment
from segue.serving.endpoints import Endpoint, endpoint_of_environment, endpoints, variables_of
from segue.settings import Settings

#: Webhook → segments whose YAML names it.
Named = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """One webhook.

    `endpoint` is None when nobody has said where it is; then what it should get waits, and `fault` says what to do.
    `segments` None: every segment.
    """

    name: str
    endpoint: Endpoint | None
    segments: frozenset[str] | None
    fault: str = ""

    def wants(self, segment: str) -> bool:
        """Whether it is called for a segment."""
        return self.segments is None or segment in self.segments


def named_in(segments: Iterable[Segment]) -> dict[str, list[str]]:
    """What the YAML of these segments names."""
    found: dict[str, list[str]] = {}
    for segment in segments:
        for name in segment.on_change:
            found.setdefault(name, []).append(segment.name)
    return found


def subscriptions(settings: Settings, named: Named) -> list[Subscription]:
    """Every webhook, those of commands first."""
    found = [
        Subscription(name=one.name, endpoint=one, segments=_wanted(one, named.get(one.name, ())))
        for one in endpoints(settings)
    ]
    known = {one.name for one in found}
    for name in sorted(set(named) - known):
        endpoint, fault = None, ""
        try:
            endpoint = endpoint_of_environment(name)
            if endpoint is None:
                url, secret = variables_of(name)
                fault = f"it has no address: `segue webhooks add {name} URL --named-only`, or set {url} and {secret}"
        except BadInputError as error:
            fault = f"{variables_of(name)[0]}: {error.message}"
        found.append(Subscription(name=name, endpoint=endpoint, segments=frozenset(named[name]), fault=fault))
    return found


def _wanted(one: Endpoint, named: Sequence[str]) -> frozenset[str] | None:
    if not one.segments and not one.named_only:
        return None
    return frozenset({*one.segments, *named})
