"""The text format of GoogleSQL's compliance suite: blocks of options, a statement and its expected result."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_OPTION = re.compile(r"\[(default\s+)?([a-z_]+)(=|\])")
_OPENERS, _CLOSERS = "[({", "])}"


@dataclass
class Block:
    """One block of a `.test` file. `results` are alternatives: any of them is right."""

    name: str
    statement: str
    results: list[str]
    options: dict[str, str] = field(default_factory=dict)

    @property
    def time_zone(self) -> str | None:
        """The default time zone, where a file sets one: its first block does so for all."""
        return self.options.get("default_time_zone")

    @property
    def prepares(self) -> bool:
        """Whether it makes a table for the blocks after it."""
        return "prepare_database" in self.options


def blocks(path: Path) -> Iterator[Block]:
    """The blocks of a file, in order."""
    defaults: dict[str, str] = {}
    for number, text in enumerate(re.split(r"(?m)^==[ \t]*\n?", path.read_text())):
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        options, rest = _options("\n".join(lines).lstrip("\n"), defaults)
        statement, *results = re.split(r"(?m)^--[ \t]*$", rest)
        if statement.strip():
            yield Block(options.get("name", f"{path.stem}_{number}"), statement.strip(), [result.strip() for result in results], options)


def _options(text: str, defaults: dict[str, str]) -> tuple[dict[str, str], str]:
    options = dict(defaults)
    while match := _OPTION.match(text):
        end = _closing(text)
        value = text[match.end() : end] if match.group(3) == "=" else ""
        (defaults if match.group(1) or match.group(2) == "default_time_zone" else options)[match.group(2)] = value.strip()
        options[match.group(2)] = value.strip()
        text = text[end + 1 :].lstrip()
    return options, text


def _closing(text: str) -> int:
    """Where the bracket that opens `text` is closed, strings left out."""
    depth, quote, position = 0, "", 0
    while position < len(text):
        character = text[position]
        if quote:
            if character == "\\":
                position += 1
            elif character == quote:
                quote = ""
        elif character in "\"'":
            quote = character
        else:
            depth += (character in _OPENERS) - (character in _CLOSERS)
            if depth == 0:
                return position
        position += 1
    raise ValueError(f"the bracket is never closed: {text[:80]}")
