"""From an error of dbt to the file at fault, and to a sentence that an analyst can act on."""

import re
from collections.abc import Collection

_NODE = re.compile(r"\bmodel\.\w+\.(\w+)")
_MISSING = re.compile(r"depends on a (?:node|source) named '([^']+)' which was not found")
_HEADER = re.compile(r"^(?:Compilation|Parsing|Runtime|Database) Error\b(?: in \w+ \S+ \(\S+\))?$")
_READING = re.compile(r"^Error reading \w+: (\S+) - (?:Runtime|Parsing) Error$")
_AT_LINE = re.compile(r"^line (\d+)$")


def named_files(message: str, known: Collection[str]) -> list[str]:
    """The project's files that a message of dbt names, in its order.

    Args:
        message: what dbt said.
        known: paths of the project's files, relative to it. dbt names some relative to `models/`.
    """
    found: dict[str, None] = {}
    for candidate in re.findall(r"[\w./-]+\.(?:sql|yml|yaml|csv|md)\b", message):
        exact = [path for path in known if path == candidate] or [p for p in known if p.endswith(f"/{candidate}")]
        if len(exact) == 1:
            found[exact[0]] = None
    if not found:
        for name in _NODE.findall(message):
            found |= {path: None for path in known if path.endswith(f"/{name}.sql")}
    return list(found)


def is_conflict(message: str) -> bool:
    """Whether the message is about definitions that exclude one another: any of them may be the one too many."""
    return "dbt found two" in message or message.startswith("Found a cycle")


def missing_reference(message: str) -> str | None:
    """The name of the model or source that was not found, when that is what the message says."""
    match = _MISSING.search(message)
    return match.group(1) if match else None


def sentence(message: str, path: str) -> str:
    """The message as one sentence that starts with the file, and the line where dbt knows it."""
    missing = missing_reference(message)
    if missing is not None:
        kind = "source" if "." in missing else "model"
        return f"{path}: it reads the {kind} {missing}, which does not exist."
    line: str | None = None
    parts: list[str] = []
    for text in (text.strip() for text in message.splitlines()):
        if not text or _HEADER.match(text) or _READING.match(text) or text.startswith(("> ", "-----", "Raw Error")):
            continue
        at = _AT_LINE.match(text) or re.match(r"^Syntax error near line (\d+)$", text)
        if at:
            line = at.group(1)
        elif line is not None and parts:
            break  # what follows is the code itself
        elif not re.match(r"^\d+\s+\|", text):
            parts.append(text)
            if line is not None:
                break
    said = " ".join(parts).rstrip(". ") or "dbt cannot read it"
    return f"{path}, line {line}: {said}." if line else f"{path}: {said}."
