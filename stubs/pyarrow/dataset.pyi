from typing import Any

from pyarrow.compute import Expression
from pyarrow.fs import FileSystem

class ParquetFileFormat:
    def make_fragment(self, file: str, filesystem: FileSystem | None = ..., partition_expression: Expression | None = ...) -> Any: ...
