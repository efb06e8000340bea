"""The dbt project as Segue sees it: plain values, read in milliseconds."""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from segue.identifiers import Normaliser, Rules

#: Models of this schema are segments.
SEGMENT_SCHEMA = "segments"

#: The messages as they were accepted, from which everything is made.
RAW = "raw.events"


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One relation that dbt builds."""

    name: str
    schema: str
    identifier: str  # the table's name; the model's own name unless it has an alias
    path: str  # relative to the project
    materialized: str  # as dbt says: table, view, incremental
    is_append_only: bool  # incremental, and never changes a row that it has written
    description: str
    depends_on: tuple[str, ...]  # names of models
    sources: tuple[str, ...]  # schema.table of relations that dbt does not build
    meta: Mapping[str, Any]
    compiled_sql: str  # full-refresh form; holds no time
    definition_hash: str  # of this model's SQL and of all upstream models' SQL, variables included

    @property
    def relation(self) -> str:
        """`schema.table`."""
        return f"{self.schema}.{self.identifier}"

    @property
    def is_per_event(self) -> bool:
        """Whether it cleans each message by itself: that it may be appended to means that no row needs later ones."""
        return self.is_append_only and self.sources == (RAW,) and not self.depends_on

    @property
    def is_population(self) -> bool:
        """Whether it looks at everyone, so that real time holds it at its last value in the warehouse."""
        said = self.meta.get("segue")
        return isinstance(said, Mapping) and said.get("scope") == "population"

    @property
    def quoted(self) -> str:
        """The relation for use in SQL; resolves in whichever catalog is the default."""
        return f"{quote(self.schema)}.{quote(self.identifier)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenModel:
    """A definition that was left out, so that all others work."""

    name: str
    path: str  # relative to the project
    reason: str  # a sentence, with the line where it is known
    fix: str


@dataclass(frozen=True, kw_only=True)
class Project:
    """A published state of the dbt project: a copy of its files, dbt's manifest, and the compiled SQL."""

    fingerprint: str
    project_dir: Path  # what dbt must be run with: a copy without the broken definitions
    target_dir: Path  # manifest.json, partial_parse.msgpack
    models: tuple[Model, ...]  # upstream first
    broken: tuple[BrokenModel, ...] = ()
    source_columns: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # schema.table → column → type
    rules: Rules = field(default_factory=Rules)  # of identity
    # Of the installation; not part of what is published.
    normaliser: Normaliser = field(default_factory=lambda: Normaliser(b"no key"))

    @property
    def manifest_path(self) -> Path:
        """dbt's manifest."""
        return self.target_dir / "manifest.json"

    @cached_property
    def by_name(self) -> Mapping[str, Model]:
        """Models by name."""
        return {model.name: model for model in self.models}

    @cached_property
    def segments(self) -> tuple[Model, ...]:
        """The models that are segments, in the order of their names."""
        return tuple(sorted((m for m in self.models if m.schema == SEGMENT_SCHEMA), key=lambda m: m.name))

    def upstream(self, names: Iterable[str]) -> tuple[Model, ...]:
        """These models and everything they are made from, upstream first; unknown names are passed over."""
        wanted: set[str] = set()
        pending = list(names)
        while pending:
            model = self.by_name.get(pending.pop())
            if model is not None and model.name not in wanted:
                wanted.add(model.name)
                pending.extend(model.depends_on)
        return tuple(model for model in self.models if model.name in wanted)

    def after_source(self, schema: str, models: Collection[Model]) -> frozenset[str]:
        """Names of those models that read a source of `schema`, directly or through other models."""
        found: set[str] = set()
        for model in models:
            if any(s.split(".")[0] == schema for s in model.sources) or found & set(model.depends_on):
                found.add(model.name)
        return frozenset(found)

    def to_json(self) -> str:
        """For `from_json`; the places of files are not in it."""
        return json.dumps(
            {
                "fingerprint": self.fingerprint,
                "models": [asdict(model) for model in self.models],
                "broken": [asdict(broken) for broken in self.broken],
                "source_columns": self.source_columns,
            }
        )

    @classmethod
    def from_json(cls, text: str, *, home: Path) -> "Project":
        """A project that was published in `home`."""
        content = json.loads(text)
        models = tuple(
            Model(**{**m, "depends_on": tuple(m["depends_on"]), "sources": tuple(m["sources"])})
            for m in content["models"]
        )
        return cls(
            fingerprint=content["fingerprint"],
            project_dir=home / "project",
            target_dir=home / "target",
            models=models,
            broken=tuple(BrokenModel(**broken) for broken in content["broken"]),
            source_columns=content["source_columns"],
        )


def quote(name: str) -> str:
    """An SQL identifier."""
    return '"' + name.replace('"', '""') + '"'
