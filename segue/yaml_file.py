"""YAML that knows its lines, so that every mistake can be shown where it is."""

import difflib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from segue.errors import SegueError


class Section:
    """One node of a YAML file, with the methods to ask for what is expected there.

    Args:
        path: the file, for messages.
        node: the parsed node.
        error: the exception class that this file's mistakes raise.
        label: what the node is called in messages.
    """

    def __init__(self, path: Path, node: yaml.Node, error: type[SegueError], label: str) -> None:
        self._path = path
        self._node = node
        self._error = error
        self.label = label

    @property
    def line(self) -> int:
        """Line number, from 1."""
        return int(self._node.start_mark.line) + 1

    def wrong(self, message: str, *, fix: str) -> SegueError:
        """The exception that names this file and line."""
        return self._error(f"{self._path}, line {self.line}: {message}", fix=fix)

    def mapping(self, allowed: Iterable[str] | None = None, required: Iterable[str] = ()) -> "dict[str, Section]":
        """The keys and values below; unknown, repeated and missing keys are errors."""
        if not isinstance(self._node, yaml.MappingNode):
            raise self.wrong(
                f"{self.label} must be a mapping of names to values", fix="write `name: value` lines below it"
            )
        known = None if allowed is None else list(allowed)
        found: dict[str, Section] = {}
        for key_node, value_node in self._node.value:
            key = str(key_node.value)
            at_key = Section(self._path, key_node, self._error, key)
            if known is not None and key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                hint = f"did you mean `{near[0]}`? " if near else ""
                raise at_key.wrong(f"{self.label} has no key `{key}`", fix=f"{hint}Possible keys: {', '.join(known)}")
            if key in found:
                raise at_key.wrong(f"`{key}` is written twice in {self.label}", fix="keep one of them")
            found[key] = Section(self._path, value_node, self._error, key)
        for key in required:
            if key not in found:
                raise self.wrong(f"{self.label} lacks `{key}`", fix=f"add `{key}: …`")
        return found

    def items(self) -> "list[Section]":
        """The entries of a list."""
        if not isinstance(self._node, yaml.SequenceNode):
            raise self.wrong(f"{self.label} must be a list", fix="write it as [a, b] or one `- entry` a line")
        return [Section(self._path, node, self._error, f"an entry of {self.label}") for node in self._node.value]

    def text(self) -> str:
        """A single value as it is written."""
        if not isinstance(self._node, yaml.ScalarNode) or self._node.tag == "tag:yaml.org,2002:null":
            raise self.wrong(f"{self.label} must be a single value", fix=f"write `{self.label}: some text`")
        return str(self._node.value)

    def flag(self) -> bool:
        """true or false."""
        value = self.value()
        if not isinstance(value, bool):
            raise self.wrong(f"{self.label} must be true or false, not {value!r}", fix="write true or false")
        return value

    def choice(self, options: Iterable[str]) -> str:
        """One of a few words."""
        words = list(options)
        text = self.text()
        if text not in words:
            near = difflib.get_close_matches(text, words, n=1)
            hint = f"did you mean `{near[0]}`? " if near else ""
            raise self.wrong(f"{self.label} cannot be `{text}`", fix=f"{hint}Possible values: {', '.join(words)}")
        return text

    def is_list(self) -> bool:
        return isinstance(self._node, yaml.SequenceNode)

    def is_mapping(self) -> bool:
        return isinstance(self._node, yaml.MappingNode)

    def value(self) -> Any:
        """The plain Python value."""
        loader = yaml.SafeLoader("")
        try:
            return loader.construct_object(self._node, deep=True)
        finally:
            loader.dispose()

    def __iter__(self) -> "Iterator[Section]":
        return iter(self.items())


def read_yaml(path: Path, error: type[SegueError], label: str) -> Section:
    """The top of a YAML file.

    Args:
        error: the exception class for mistakes in this file.
        label: what the whole file is, e.g. "the contract".

    Raises:
        error: when the file cannot be read or is not YAML.
    """
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except FileNotFoundError:
        raise error(f"{path} does not exist", fix="check the path") from None
    except OSError as problem:
        raise error(f"{path} cannot be read: {problem.strerror}", fix="check its permissions") from None
    except UnicodeDecodeError:
        raise error(f"{path} is not UTF-8 text", fix="save it as UTF-8") from None
    except yaml.MarkedYAMLError as problem:
        line = problem.problem_mark.line + 1 if problem.problem_mark else 1
        raise error(
            f"{path}, line {line}: not YAML: {problem.problem}", fix="check the indentation and quotes there"
        ) from None
    except yaml.YAMLError as problem:
        said = " ".join(str(problem).split())
        raise error(f"{path}: not YAML: {said}", fix="remove the character that it names") from None
    if node is None:
        raise error(f"{path} is empty", fix=f"write {label} into it, or remove it")
    return Section(path, node, error, label)
