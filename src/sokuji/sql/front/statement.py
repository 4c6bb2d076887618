"""A statement's text, and the position in the script for each position in the text."""

from __future__ import annotations

from dataclasses import dataclass

from sokuji.errors import SqlError
from sokuji.sql.front.lookup import Path

_TAB = 8  # ZetaSQL advances the column at a tab to the next multiple of this


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of a script, or a part of a statement that is analysed separately.

    `pieces` says where the text comes from, as pairs (offset in `text`, offset in `script`) in characters, ascending: from a pair's first
    offset on, the text is that of the script from the second offset on. `tables` are the paths that the text names.
    """

    text: str
    script: str
    pieces: tuple[tuple[int, int], ...]
    tables: tuple[Path, ...] = ()

    def part(self, start: int, end: int) -> Statement:
        """The statement's bytes from `start` to `end`, counted as ZetaSQL's parse locations."""
        data = self.text.encode()
        offset = len(data[:start].decode())
        text = data[start:end].decode()
        further = ((at - offset, place) for at, place in self.pieces if offset < at < offset + len(text))
        return Statement(text, self.script, ((0, self.script_offset(offset)), *further))

    def original(self, start: int, end: int) -> str:
        """The part of the script for the characters from `start` to `end` of the text."""
        return self.script[self.script_offset(start) : self.script_offset(end)]

    def script_offset(self, offset: int) -> int:
        """The position in the script of the character at `offset` of the text."""
        start, script_start = max(piece for piece in self.pieces if piece[0] <= max(offset, self.pieces[0][0]))
        return script_start + offset - start

    def locate(self, error: SqlError) -> SqlError:
        """The same error, with its position counted in characters of the whole script."""
        if error.line is None or error.column is None or error.sql is not None:
            return error
        return self.error_at(error.message, _offset(self.text, error.line, error.column), type(error))

    def error_at(self, message: str, offset: int, kind: type[SqlError] = SqlError) -> SqlError:
        """An error about the character at `offset` of the text."""
        place = self.script_offset(offset)
        line_start = self.script.rfind("\n", 0, place) + 1
        line = self.script.count("\n", 0, place) + 1
        return kind(message, line=line, column=place - line_start + 1, sql=self.script)


def _offset(text: str, line: int, column: int) -> int:
    """The offset of a position from ZetaSQL, whose columns count a tab as several characters."""
    start = 0
    for _ in range(line - 1):
        start = text.find("\n", start) + 1
    reached = 1
    for offset in range(start, len(text)):
        if reached >= column or text[offset] == "\n":
            return offset
        reached = ((reached - 1) // _TAB + 1) * _TAB + 1 if text[offset] == "\t" else reached + 1
    return len(text)
