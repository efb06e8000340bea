"""A person's features as the database wrote them: read only when somebody asks."""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson


class Features(Mapping[str, Any]):
    """A row of marts.person_features. `text` is the same as JSON, for whoever passes it on."""

    __slots__ = ("_values", "text")

    def __init__(self, text: str | None) -> None:
        self.text = text or "{}"
        self._values: dict[str, Any] | None = None

    def _read(self) -> dict[str, Any]:
        if self._values is None:
            self._values = orjson.loads(self.text)
        return self._values

    def __getitem__(self, name: str) -> Any:
        return self._read()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())


def with_scores(features: str, scores: str) -> str:
    """A row of features with the scores of the same person, both as JSON objects; unknown scores are left out."""
    known = {name: value for name, value in orjson.loads(scores).items() if value is not None and name != "person_id"}
    return f"{features[:-1]},{orjson.dumps(known).decode()[1:]}" if known else features
