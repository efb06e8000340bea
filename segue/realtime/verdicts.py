"""What the analysts' SQL says of people, rule by rule; a rule that fails takes only itself out."""

import logging
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import cache

import duckdb
import pyarrow as pa

from segue.errors import DefinitionError
from segue.models import Project
from segue.realtime.chain import Chain
from segue.realtime.features import with_scores
from segue.realtime.rules import Decoder, SegmentRules, rules
from segue.realtime.staging import Staging

log = logging.getLogger(__name__)

#: Answers with a relation of the warehouse as an Arrow table; None when it is not there.
Held = Callable[[str], pa.Table | None]

#: person_id, segments, features as JSON text.
Verdict = tuple[str, tuple[str, ...], str | None]


class Verdicts:
    """The rules of one published project, ready to be asked.

    Args:
        project: as published.
        staging: of the same project.
        held: where population models and foreign sources are read.
        refused: models that look at everyone → why.

    Raises:
        DefinitionError: when the models cannot be put together.
    """

    def __init__(self, project: Project, staging: Staging, held: Held, refused: Mapping[str, str]) -> None:
        # Read once: all that is answered here goes by the same state of them.
        self._project, self._staging, self._held, self._refused = project, staging, cache(held), refused
        self.rules: SegmentRules = rules(project, refused)
        self._chain = self._made(self.rules)
        self._bare = self._made(self.rules, has_features=False)
        self._decoder = Decoder(self.rules)
        self.columns = tuple(self._chain.columns)  # of staged events, that an answer depends on
        self.reads_sightings = self._chain.reads_sightings

    def ask(self, rows: pa.Table, identifiers: pa.Table, as_of: datetime) -> Iterator[Verdict]:
        """What is said of everybody who has segments or features.

        Args:
            rows: staged events, at least `columns`.
            identifiers: `identity.identifiers` of those whose events they are.
            as_of: aware.
        """
        try:
            answer = self._evaluate(self._chain, rows, identifiers, as_of)
        except duckdb.Error:
            answer = self.without_failing(rows, identifiers, as_of)
        return self.read(answer)

    def ask_bare(self, rows: pa.Table, identifiers: pa.Table, as_of: datetime) -> pa.Table | None:
        """The same without features, which costs two thirds, to be given to `read`; None when some rule fails.

        Another thread may call it while this one asks something else.
        """
        try:
            return self._evaluate(self._bare, rows, identifiers, as_of)
        except duckdb.Error:
            return None

    def read(self, answer: pa.Table) -> Iterator[Verdict]:
        """Bits as names of segments."""
        masks = zip(*(answer[f"m{n}"].to_pylist() for n in range(self._chain.slots)), strict=True)
        names = self._decoder.names
        people, features, scores = (answer[name].to_pylist() for name in ("person_id", "features", "scores"))
        for person, mask, said, scored in zip(people, masks, features, scores, strict=True):
            yield person, names(mask), said if said is None or scored is None else with_scores(said, scored)

    def hold(self, before: tuple[str, ...], names: tuple[str, ...]) -> tuple[str, ...]:
        """The segments of a person, with those that cannot be evaluated at present as they were before."""
        return self._decoder.hold(before, names) if self.rules.held else names

    def _made(self, chosen: SegmentRules, *, has_features: bool = True) -> Chain:
        names = [segment.name for segment in chosen.evaluated]
        return Chain(self._project, names, self._staging, self._held, has_features=has_features)

    @staticmethod
    def _evaluate(chain: Chain, rows: pa.Table, identifiers: pa.Table, as_of: datetime) -> pa.Table:
        return chain.evaluate(rows.select(chain.columns), identifiers, as_of)

    def without_failing(self, rows: pa.Table, identifiers: pa.Table, as_of: datetime) -> pa.Table:
        """As in the warehouse, one rule that fails on somebody's data takes only itself out."""
        # The database's own words may quote somebody's data.
        log.error("a segment cannot be evaluated on somebody's events; looking which")
        failing = set(self.rules.held)
        for segment in self.rules.evaluated:
            try:
                alone = Chain(self._project, [segment.name], self._staging, self._held, has_features=False)
                self._evaluate(alone, rows, identifiers, as_of)
            except (duckdb.Error, DefinitionError):
                failing.add(segment.name)
        chosen = rules(self._project, self._refused, failing)
        try:
            chain = self._made(chosen)
            answer = self._evaluate(chain, rows, identifiers, as_of)
        except duckdb.Error:
            chain = self._made(chosen, has_features=False)
            answer = self._evaluate(chain, rows, identifiers, as_of)
        self.rules, self._chain, self._decoder = chosen, chain, Decoder(chosen)
        self._bare = self._made(chosen, has_features=False)
        log.error("segments that keep their people until this is mended: %s", ", ".join(sorted(chosen.held)) or "none")
        return answer
