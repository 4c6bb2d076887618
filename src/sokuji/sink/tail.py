"""The rows of one dataset that are only in the log. Each row is shaped once, for any number of queries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from sokuji.dedup.rule import Places
from sokuji.dedup.runs import Ids, Seen
from sokuji.lake.base import Kept
from sokuji.lake.events import COLUMNS_AT_ONCE, COLUMNS_MAX, FIXED_SCHEMA, NOTHING_SAID, Columns
from sokuji.sink.backlog import Backlog, Mask, joined
from sokuji.sink.shape import Shaper


@dataclass
class _Piece:
    """Rows that were shaped together."""

    rows: Backlog
    ids: Ids
    kept: Mask  # which of the rows are in `shaped`; not those that the table had, or that are repeats
    shaped: pa.Table  # has the columns that were known at that time

    def __len__(self) -> int:
        return len(self.kept)

    def wanted(self, mask: Mask, schema: pa.Schema) -> pa.Table:
        """The rows of the mask, all of which are in `kept`, in all columns."""
        rows = self.shaped if mask.sum() == self.shaped.num_rows else self.shaped.filter(pa.array(mask[self.kept]))
        nulls = rows.num_rows
        columns = (rows.column(field.name) if field.name in rows.schema.names else pa.nulls(nulls, field.type) for field in schema)
        return pa.table(list(columns), schema=schema)

    def take(self, mask: Mask) -> _Piece:
        """Select some of the rows."""
        shaped = self.shaped.filter(pa.array(mask[self.kept]))
        return _Piece(self.rows.take(mask), self.ids.take(mask), self.kept[mask], shaped)

    def joined(self, other: _Piece, schema: pa.Schema) -> _Piece:
        """These rows, then those of another piece."""
        rows = joined([self.rows, other.rows])
        return _Piece(
            Backlog(rows.rows.combine_chunks(), rows.partitions, rows.offsets),
            Ids(np.concatenate([self.ids.high, other.ids.high]), np.concatenate([self.ids.low, other.ids.low])),
            np.concatenate([self.kept, other.kept]),
            pa.concat_tables([piece.wanted(piece.kept, schema) for piece in (self, other)]).combine_chunks(),
        )


class Tail:
    """Rows in the order in which they were read. For one thread."""

    def __init__(self, shaper: Shaper) -> None:
        self._shaper = shaper
        self._pieces: list[_Piece] = []
        self._table_columns: Columns = {}
        self._kept: Mapping[str, Kept] = NOTHING_SAID
        self._columns: Columns = {}  # the table's columns, then those that only the log has so far

    def __len__(self) -> int:
        return sum(len(piece) for piece in self._pieces)

    def add(self, rows: Backlog) -> None:
        """Append rows."""
        self._pieces.append(_Piece(rows, self._shaper.ids(rows.rows), np.zeros(len(rows.offsets), np.bool_), FIXED_SCHEMA.empty_table()))

    def forget(self, positions: Mapping[int, int]) -> None:
        """Drop the rows before these offsets."""
        masks = [piece.rows.from_offsets(positions) for piece in self._pieces]
        taken = (piece if mask.all() else piece.take(mask) for piece, mask in zip(self._pieces, masks, strict=True))
        self._pieces = [piece for piece in taken if len(piece)]

    def table(
        self, table_columns: Columns, kept: Mapping[str, Kept], committed: Mapping[int, int], seen: Seen, sightings: Counter[str]
    ) -> pa.Table:
        """The rows that a table with these columns, offsets, messages and sightings lacks. Its columns come first."""
        self._conform(table_columns, kept)
        masks = self._new(committed, seen)
        for piece, mask in zip(self._pieces, masks, strict=True):
            if (mask & ~piece.kept).any():
                shaped = self._shaper.shape(piece.rows.placed().filter(pa.array(mask)), self._columns, kept, Counter(sightings))
                piece.kept, piece.shaped = mask, shaped.read_all()
        schema = pa.schema([*FIXED_SCHEMA, *self._columns.items()])
        tables = [piece.wanted(mask, schema) for piece, mask in zip(self._pieces, masks, strict=True)]
        self._merge(schema)
        return pa.concat_tables([schema.empty_table(), *tables])

    def _conform(self, table_columns: Columns, kept: Mapping[str, Kept]) -> None:
        """Align the columns with the table's. If other columns were chosen here, all rows must be shaped again."""
        spelling = {name.lower(): (name, type_) for name, type_ in self._columns.items()}
        is_new = not table_columns.keys() <= self._columns.keys()
        agree = all(spelling.get(name.lower(), (name, type_)) == (name, type_) for name, type_ in table_columns.items())
        columns = table_columns | self._columns
        # If columns need several events, or there was no room, rows may have been shaped without a column that the table has now.
        agree &= not (is_new and len(columns) > COLUMNS_AT_ONCE)
        if agree and kept == self._kept and self._table_columns.keys() <= table_columns.keys() and len(columns) <= COLUMNS_MAX:
            self._columns = columns
        else:
            for piece in self._pieces:
                piece.kept, piece.shaped = np.zeros(len(piece), np.bool_), FIXED_SCHEMA.empty_table()
            self._columns = dict(table_columns)
        self._table_columns, self._kept = dict(table_columns), kept

    def _new(self, committed: Mapping[int, int], seen: Seen) -> list[Mask]:
        """By piece, which rows the table lacks and which are not repeats."""
        if not self._pieces:
            return []
        uncommitted = np.concatenate([piece.rows.from_offsets(committed) for piece in self._pieces])
        ids = Ids(np.concatenate([piece.ids.high for piece in self._pieces]), np.concatenate([piece.ids.low for piece in self._pieces]))
        places = Places(*(np.concatenate(parts) for parts in zip(*(piece.rows.places for piece in self._pieces), strict=True)))
        # Include committed rows, which `seen` may not have yet: other rows may repeat them.
        new = uncommitted & seen.is_new(ids, places)
        return np.split(new, np.cumsum([len(piece) for piece in self._pieces])[:-1])

    def _merge(self, schema: pa.Schema) -> None:
        """Join the last two pieces until each is longer than the next. So there are few pieces, and each row is copied only a few times."""
        while len(self._pieces) > 1 and len(self._pieces[-2]) <= len(self._pieces[-1]):
            *others, first, second = self._pieces
            self._pieces = [*others, first.joined(second, schema)]
