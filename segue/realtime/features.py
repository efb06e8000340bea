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
