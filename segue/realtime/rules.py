"""Which segments are evaluated here, and what a person is in after exclusive groups have had their say."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from segue.models import Project
from segue.realtime.chain import BITS
from segue.segments import Segment, definitions


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentRules:
    """The segments of one published project, as the engine takes them."""

    evaluated: tuple[Segment, ...]  # in the order of the bits
    served: frozenset[str]  # of those, the ones whose memberships are served
    left_out: Mapping[str, str]  # segment → why it is not evaluated
    held: Mapping[str, str | None]  # segments whose SQL fails at present, and keep their people → exclusive group


def rules(project: Project, refused: Mapping[str, str], failing: Collection[str] = ()) -> SegmentRules:
    """What to evaluate.

    Args:
        refused: models whose SQL looks at everyone → why.
        failing: segments that the database refuses at present.
    """
    known = definitions(project)
    left_out = {name: error.message for name, error in known.errors.items()}
    left_out |= {broken.name: broken.reason for broken in project.broken}
    wanted = [s for s in known.segments if s.realtime]
    groups = {s.exclusive_group for s in wanted if s.exclusive_group is not None}
    # Who is in one segment of a group depends on the others, served or not.
    rivals = [s for s in known.segments if not s.realtime and s.exclusive_group in groups]
    evaluated: list[Segment] = []
    # Who is in a segment that is broken stays in it until it is mended or removed.
    held: dict[str, str | None] = dict.fromkeys(left_out)
    for segment in sorted((*wanted, *rivals), key=lambda s: s.name):
        culprit = next((m.name for m in project.upstream([segment.name]) if m.name in refused), None)
        if culprit is not None:
            left_out[segment.name] = refused[culprit]
        elif segment.name in failing:
            left_out[segment.name] = "the database refuses its SQL; its people stay as they were"
            held[segment.name] = segment.exclusive_group
        else:
            evaluated.append(segment)
    served = frozenset(s.name for s in wanted if s.name not in left_out)
    return SegmentRules(evaluated=tuple(evaluated), served=served, left_out=left_out, held=held)


class Decoder:
    """From the bits of an answer to names of segments."""

    def __init__(self, rules: SegmentRules) -> None:
        self._rules = rules
        self._known: dict[tuple[int, ...], tuple[str, ...]] = {}
        self._groups = {s.name: s.exclusive_group or s.name for s in rules.evaluated}

    def names(self, masks: tuple[int, ...]) -> tuple[str, ...]:
        """The served segments of a person, by name; one of each exclusive group, that with the lowest priority."""
        found = self._known.get(masks)
        if found is None:
            found = self._known[masks] = self._decode(masks)
        return found

    def hold(self, before: tuple[str, ...], names: tuple[str, ...]) -> tuple[str, ...]:
        """The same with the held segments that a person was in before; these win in their groups."""
        held = self._rules.held
        kept = [name for name in before if name in held]
        if not kept:
            return names
        taken = {held[name] for name in kept} - {None}
        return tuple(sorted((*kept, *(name for name in names if self._groups.get(name) not in taken))))

    def _decode(self, masks: tuple[int, ...]) -> tuple[str, ...]:
        claims = [s for n, s in enumerate(self._rules.evaluated) if masks[n // BITS] >> n % BITS & 1]
        kept: list[str] = []
        taken: set[str] = set()
        for segment in sorted(claims, key=lambda s: (s.priority, s.name)):
            if segment.exclusive_group is None or segment.exclusive_group not in taken:
                kept.append(segment.name)
                if segment.exclusive_group is not None:
                    taken.add(segment.exclusive_group)
        return tuple(sorted(name for name in kept if name in self._rules.served))
