"""A statement's text, and how a place in it is a place in the script it came from."""

from __future__ import annotations

from dataclasses import dataclass

from sokuji.errors import SqlError
from sokuji.sql.front.lookup import Path

_TAB = 8  # ZetaSQL counts a tab as up to the next multiple of this


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of a script, or a part of one made into a statement of its own.

    `pieces` says where the text comes from, as pairs (offset in `text`, offset in `script`) in characters, ascending: the text
    from one pair's offset on is the script's from the other's. `tables` are the paths the text names.
    """

    text: str
    script: str
    pieces: tuple[tuple[int, int], ...]
    tables: tuple[Path, ...] = ()

    def part(self, start: int, end: int) -> Statement:
        """The statement's bytes from `start` to `end`, as ZetaSQL's parse locations count."""
        data = self.text.encode()
        offset = len(data[:start].decode())
        text = data[start:end].decode()
        further = ((at - offset, place) for at, place in self.pieces if offset < at < offset + len(text))
        return Statement(text, self.script, ((0, self.script_offset(offset)), *further))

    def original(self, start: int, end: int) -> str:
        """What the script has where the text has the characters from `start` to `end`."""
        return self.script[self.script_offset(start) : self.script_offset(end)]

    def script_offset(self, offset: int) -> int:
        """Where in the script the character at `offset` of the text is."""
        start, script_start = max(piece for piece in self.pieces if piece[0] <= max(offset, self.pieces[0][0]))
        return script_start + offset - start

    def locate(self, error: SqlError) -> SqlError:
        """The same error, its place counted in characters of the whole script."""
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
    """The offset of a place that ZetaSQL gave: its columns count a tab as several."""
    start = 0
    for _ in range(line - 1):
        start = text.find("\n", start) + 1
    reached = 1
    for offset in range(start, len(text)):
        if reached >= column or text[offset] == "\n":
            return offset
        reached = ((reached - 1) // _TAB + 1) * _TAB + 1 if text[offset] == "\t" else reached + 1
    return len(text)
