"""Which columns of `marts.person_features` are compared, and how they are spoken of."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from segue.errors import DefinitionError
from segue.models import Project

_KEYS = ("high", "low", "missing", "noun")


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """One column and its words. In YAML: `config: {meta: {segue: {cluster: {high: …, low: …, noun: …}}}}`."""

    column: str
    high: str  # of a group in which it is high: "at night"
    low: str  # of a group in which it is low: "by day"
    missing: str | None = None  # of a group in which it is missing: "never ordered"; None: said as "no …"
    noun: str | None = None  # what a ratio is of: "3.1× the usual basket"; None: the value is told

    @property
    def is_share(self) -> bool:
        """Whether values are between 0 and 1."""
        return self.column.endswith("_share")


#: The words for the columns that Segue ships; YAML overrides them.
_WORDS: Mapping[str, Mapping[str, str]] = {
    "session_count": {"high": "many visits", "low": "few visits", "noun": "number of visits"},
    "session_count_7d": {"high": "here all week", "low": "quiet this week", "noun": "visits a week"},
    "session_count_28d": {"high": "frequent visits", "low": "rare visits", "noun": "visits a month"},
    "average_session_seconds": {"high": "long visits", "low": "short visits", "noun": "visit length"},
    "pages_per_session": {"high": "many pages a visit", "low": "few pages a visit", "noun": "pages a visit"},
    "event_count": {"high": "long history", "low": "short history", "noun": "activity"},
    "event_count_28d": {"high": "very active", "low": "hardly active", "noun": "activity this month"},
    "active_days_28d": {"high": "here most days", "low": "here few days", "noun": "active days"},
    "hours_since_last_seen": {"high": "away for long", "low": "seen lately"},
    "mobile_share": {"high": "on mobile", "low": "on the web"},
    "night_share": {"high": "at night", "low": "by day"},
    "weekend_share": {"high": "at weekends", "low": "on weekdays"},
    "premium_use_count": {"high": "premium users", "low": "no premium", "noun": "premium use"},
    "search_count": {"high": "searching a lot", "low": "hardly searching", "noun": "searches"},
    "product_view_count": {"high": "browsing a lot", "low": "hardly browsing", "noun": "product views"},
    "category_count": {"high": "broad interests", "low": "narrow interests", "noun": "number of categories"},
    "order_count": {"high": "frequent buyers", "low": "rarely buying", "noun": "orders"},
    "revenue": {"high": "big spenders", "low": "small spenders", "noun": "spending", "missing": "never bought"},
    "average_basket": {"high": "large baskets", "low": "small baskets", "noun": "basket", "missing": "never bought"},
}

#: Used when no YAML says which columns count: one column for each kind of behaviour, not several of the same.
SHIPPED = (
    "session_count_28d", "average_session_seconds", "pages_per_session", "hours_since_last_seen", "mobile_share",
    "night_share", "weekend_share", "premium_use_count", "search_count", "product_view_count", "category_count",
    "order_count", "average_basket",
)  # fmt: skip


def feature(column: str, words: Mapping[str, Any] | None = None) -> Feature:
    """A feature from its column and the words that are known for it."""
    spoken = column.replace("_", " ")
    known = {"high": f"high {spoken}", "low": f"low {spoken}", "noun": None if column.endswith("_share") else spoken}
    if column in _WORDS:
        known = {"high": "", "low": "", **_WORDS[column]}
    known |= dict(words or {})
    return Feature(
        column=column,
        high=str(known["high"]),
        low=str(known["low"]),
        missing=known.get("missing"),
        noun=known.get("noun"),
    )


def features_of(project: Project, model: str = "person_features") -> tuple[Feature, ...]:
    """The columns that the analysts chose: those whose YAML has `config.meta.segue.cluster`, true or a map of words.

    Empty when the model or such columns do not exist; `discover` then takes the columns that Segue ships.

    Raises:
        DefinitionError: when the map has a key that means nothing.
    """
    manifest: dict[str, Any] = json.loads(project.manifest_path.read_text())
    found = []
    for node in manifest["nodes"].values():
        if node["resource_type"] != "model" or node["name"] != model:
            continue
        for name, column in node["columns"].items():
            meta = {**(column.get("meta") or {}), **((column.get("config") or {}).get("meta") or {})}
            said = (meta.get("segue") or {}).get("cluster")
            if not said:
                continue
            words = said if isinstance(said, Mapping) else {}
            unknown = sorted(set(words) - set(_KEYS))
            if unknown:
                raise DefinitionError(
                    f"{model}.{name}: `cluster` has no key {unknown[0]!r}",
                    fix=f"use {', '.join(_KEYS)}, or `cluster: true`",
                )
            found.append(feature(name, words))
    return tuple(found)


def choose(columns: Mapping[str, str], wanted: Sequence[Feature]) -> tuple[Feature, ...]:
    """The features that can be used, given column → DuckDB type.

    Raises:
        DefinitionError: when a wanted column does not exist or holds no numbers.
    """
    for one in wanted:
        if one.column not in columns:
            raise DefinitionError(
                f"marts.person_features has no column {one.column!r}",
                fix="correct the name, or remove `cluster` from its YAML",
            )
        if not _is_number(columns[one.column]):
            raise DefinitionError(
                f"marts.person_features.{one.column} is {columns[one.column]}; clusters compare numbers",
                fix="remove `cluster` from its YAML",
            )
    if wanted:
        return tuple(wanted)
    numbers = [name for name, kind in columns.items() if _is_number(kind)]
    shipped = [name for name in SHIPPED if name in numbers]
    return tuple(feature(name) for name in (shipped or numbers))


def _is_number(kind: str) -> bool:
    name = kind.partition("(")[0].upper()
    return (
        name in {"BOOLEAN", "FLOAT", "DOUBLE", "DECIMAL", "REAL"}
        or name.removeprefix("U").endswith("INT")
        or (name in {"INTEGER", "UINTEGER"})
    )
