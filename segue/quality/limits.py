"""From where on a change in the data is worth a word: `dbt_project/quality.yml`."""

from dataclasses import dataclass, fields
from pathlib import Path

from segue.errors import DefinitionError
from segue.yaml_file import read_yaml


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Every limit with its default; shares are 0 to 1."""

    least_messages: float = 30.0  # expected a day, below which volume tells nothing
    volume_drop: float = 0.6  # of the messages of the same weekday before
    volume_rise: float = 3.0  # times as many as before
    silent_hours: float = 36.0  # a source that sends daily and has not; one with longer silences has more time
    missing_rise: float = 0.2  # a property missing in so much more of the messages than before
    type_share: float = 0.2  # of the values of a property that have another type than before
    duplicate_share: float = 0.2
    quarantine_share: float = 0.05
    skew_minutes: float = 10.0  # a client's clock that is off by more than this is wrong
    skew_share: float = 0.05
    identifiers_per_person: float = 50.0


def load_limits(path: Path) -> Limits:
    """The limits of a file over the defaults; the defaults when there is none.

    Raises:
        DefinitionError: naming file, line and fix.
    """
    if not path.is_file():
        return Limits()
    known = [field.name for field in fields(Limits)]
    top = read_yaml(path, DefinitionError, "the limits").mapping(("limits",), required=("limits",))
    values: dict[str, float] = {}
    for name, section in top["limits"].mapping(known).items():
        value = section.value()
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise section.wrong(f"{name} is {value!r}", fix=f"write a number, such as {getattr(Limits(), name)}")
        values[name] = float(value)
    return Limits(**values)
