"""Strings as small numbers: rows of features hold a string's id, and its text is stored here once.

The file is append-only, with one JSON string per line; a string's id is its line number, counted from 1. One process writes (`Vocabulary`),
any number read (`Strings`). Ids are assigned in the order of arrival, so a replay in the same order gives the same ids.
"""

from __future__ import annotations

import json
import logging
import os
import zlib
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sokuji.arrays import in_one_piece
from sokuji.closing import Closing
from sokuji.disk.marked import REMEDY, AnyMark, Mark, check
from sokuji.errors import DamagedFileError, FeatureError

STRINGS_FILE = "strings.jsonl"
"""The file's name in the folder of a dataset's state."""

LENGTH_MAX = 1024
"""Characters kept of a string. Strings that differ only after this length are treated as equal."""

LIMIT = 1_000_000
"""Strings that get an id of their own. Later strings all become `OTHER`, and so do strings that exceed `BYTES_MAX`."""

BYTES_MAX = 128 * 1024 * 1024
"""Bytes of these strings in UTF-8. They are in memory several times, and anyone may send a million strings of `LENGTH_MAX`."""

OTHER = "(other)"
_OTHER_ID = 1
_LOG = logging.getLogger(__name__)


class Strings:
    """The strings in a file, by id. New strings of the writer are read when an unknown id comes."""

    def __init__(self, path: Path | None) -> None:
        self._path, self._read = path, 0
        self._texts: pa.ChunkedArray = pa.chunked_array([], pa.string())
        self.refresh()

    def refresh(self) -> list[str]:
        """Read the strings added to the file since the last read, and return them.

        Raises:
            DamagedFileError: the file is not a list of strings.
        """
        if self._path is None or not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        try:
            added: list[str] = [json.loads(line) for line in whole.splitlines()]
        except ValueError as error:
            raise DamagedFileError(self._path, f"it has a line that is no JSON ({error})", REMEDY) from error
        self._read += len(whole)
        self._add(added)
        return added

    def _add(self, texts: list[str]) -> None:
        if texts:
            self._texts = pa.chunked_array([*self._texts.chunks, pa.array(texts, pa.string())])
            if self._texts.num_chunks > 32:  # lookups are slow in many chunks
                self._texts = pa.chunked_array([pa.concat_arrays(self._texts.chunks)])

    def __len__(self) -> int:
        return len(self._texts)

    def decode(self, ids: npt.NDArray[np.float64]) -> pa.StringArray:
        """The strings of ids; NULL for NaN.

        Raises:
            FeatureError: there is no such string: the row is from another project, or newer than the file.
        """
        null = np.isnan(ids)
        places = np.where(null, 0, ids).astype(np.int64) - 1
        highest = int(places.max(initial=-1))
        if highest >= len(self._texts):
            self.refresh()
        if highest >= len(self._texts):
            raise FeatureError(f"string {highest + 1} is unknown: {self._path} has {len(self._texts)}; it must be copied with the state")
        texts = self._texts.take(pa.array(places, pa.int64(), mask=null))
        return cast("pa.StringArray", in_one_piece(texts))


class Vocabulary(Strings, Closing):
    """The only writer of a file, or strings in memory alone if `path` is None. Call `flush` before rows with its ids go to disk."""

    def __init__(self, path: Path | None = None, *, limit: int = LIMIT, bytes_max: int = BYTES_MAX) -> None:
        self._limit, self._bytes_max, self._bytes = limit, bytes_max, 0
        self._ids: dict[str, int] = {}
        self.others = 0
        """How many strings of batches became `OTHER` because the limits were reached."""
        self._file: Any = None
        self._checksum = 0
        if path is not None:
            self._file, self._checksum = _open(path)
        super().__init__(path)
        if not len(self):
            self._append([OTHER])

    @classmethod
    def beside(cls, path: Path, *, limit: int = LIMIT) -> Vocabulary:
        """A copy in memory of the strings of a file that another process writes. Strings added here are not written to the file."""
        vocabulary = cls(limit=limit)
        known = Strings(path)
        vocabulary._append(known.decode(np.arange(2.0, len(known) + 1.0)).to_pylist())
        return vocabulary

    def _add(self, texts: list[str]) -> None:
        self._ids.update(zip(texts, range(len(self) + 1, len(self) + len(texts) + 1), strict=True))
        self._bytes += sum(_sizes(texts))
        super()._add(texts)

    def _append(self, texts: list[str]) -> None:
        if self._file is None:
            self._add(texts)
            return
        lines = b"".join(json.dumps(text).encode() + b"\n" for text in texts)
        self._file.write(lines)
        self._file.flush()
        self._checksum = zlib.crc32(lines, self._checksum)
        self.refresh()

    def encode(self, texts: Any) -> npt.NDArray[np.float64]:
        """The ids of an Arrow array of strings, NaN for NULL. New strings get new ids."""
        encoded = texts.dictionary_encode()
        if isinstance(encoded, pa.ChunkedArray):
            encoded = encoded.combine_chunks()
        known = pc.utf8_slice_codeunits(encoded.dictionary, 0, LENGTH_MAX).to_pylist()
        added = [text for text in dict.fromkeys(known) if text is not None and text not in self._ids]
        taken = self._that_fit(added)
        if taken:
            self._append(taken)
        if len(taken) < len(added):
            self._count_others(len(added) - len(taken))
        ids = np.array([self._ids.get(text, _OTHER_ID) for text in known] + [np.nan])
        places: npt.NDArray[np.int64] = pc.fill_null(encoded.indices, len(known)).to_numpy(zero_copy_only=False)
        return ids[places]

    def _that_fit(self, texts: list[str]) -> list[str]:
        """The texts for which there is room. Each text depends only on those before it, so batch boundaries do not matter."""
        sizes = _sizes(texts)
        if len(self) + len(texts) <= self._limit and self._bytes + sum(sizes) <= self._bytes_max:
            return texts
        fitting: list[str] = []
        size = self._bytes
        for text, own in zip(texts, sizes, strict=True):
            if len(self) + len(fitting) < self._limit and size + own <= self._bytes_max:
                fitting.append(text)
                size += own
        return fitting

    def _count_others(self, count: int) -> None:
        if not self.others:
            _LOG.warning(
                "there are too many strings: those that come new from now on are all the same to features, %r",
                OTHER,
                extra={"file": str(self._path), "strings": len(self), "limit": self._limit},
            )
        self.others += count

    def flush(self) -> Mark:
        """Make all strings with an id durable, and return the mark of the file's end."""
        if self._file is not None:
            os.fsync(self._file.fileno())
        return Mark(self._read, self._checksum)

    def verify(self, mark: AnyMark) -> None:
        """Check that the file up to `mark` is unchanged. A replay assigns the same ids to later strings.

        Raises:
            DamagedFileError: the file has changed.
        """
        if self._path is not None:
            check(self._path, mark)

    def close(self) -> None:
        """Flush and close the file. Closing twice is a no-op."""
        if self._file is not None and not self._file.closed:
            self.flush()
            self._file.close()


def _sizes(texts: list[str]) -> list[int]:
    return [len(text.encode()) for text in texts]


def _open(path: Path) -> tuple[Any, int]:
    """The file and its CRC-32, after an incomplete end left by a crash was cut off."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+b")
    file.seek(0)
    whole = checksum = 0
    for line in file:
        # A file system may have extended the file without its data: zeros are not JSON.
        if not line.endswith(b"\n") or not line.startswith(b'"'):
            break
        whole, checksum = whole + len(line), zlib.crc32(line, checksum)
    file.truncate(whole)
    file.seek(0, os.SEEK_END)
    return file, checksum
