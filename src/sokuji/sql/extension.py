"""Let other packages add statements and table functions to SQL, without imports of these packages in `sql`.

`platform.py` passes tables of handlers to the engine; `ml` provides them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import pyarrow as pa
from google.protobuf.message import Message

from sokuji.errors import SqlError
from sokuji.models.versions import ModelSignature
from sokuji.sql.result import Result
from sokuji.types import Field, Type

T = TypeVar("T")


class Queries(Protocol):
    """What a statement handler can ask of the engine."""

    def run_query(self, output_columns: Any, scan: Message) -> Result:
        """Run a resolved query (`ResolvedOutputColumnProto` list and `AnyResolvedScanProto`) with the statement's parameters."""

    def option_values(self, options: Any) -> dict[str, Any]:
        """`OPTIONS(...)` (`ResolvedOptionProto` list) as Python values by lower-case name. ARRAY is a list, STRUCT a dict."""

    def located(self, node: Message, error: SqlError) -> SqlError:
        """The same error, with the position of a node of the resolved statement."""

    def check(self) -> None:
        """Check for cancellation; long operations call this often. Raises QueryCancelledError: cancelled, or the time limit is reached."""

    def aside(self, function: Callable[[], T]) -> T:
        """Call `function` on another thread; return or raise what it does. The caller leaves at the end of the statement, even if the
        function runs on until it calls `check`.
        """


class StatementHandler(Protocol):
    """Runs one kind of resolved statement, by the field name of `AnyResolvedStatementProto` ("resolved_create_model_stmt_node")."""

    def __call__(self, statement: Any, sql: str, queries: Queries) -> Result: ...


@dataclass(frozen=True, slots=True)
class TableCall:
    """One call of a table function in a FROM clause: `ML.PREDICT(MODEL m, TABLE t, STRUCT(0.7 AS threshold))`."""

    model: ModelSignature | None
    inputs: tuple[tuple[Field, ...], ...]  # the columns of each relation argument
    settings: Mapping[str, Any] = field(default_factory=dict)  # the trailing STRUCT, as Python values by lower-case name
    arguments: tuple[Any, ...] = ()  # other constant arguments, in order (ML.ROC_CURVE's array of thresholds)

    @property
    def input(self) -> tuple[Field, ...] | None:
        """The columns of the only relation argument; None if there is none."""
        return self.inputs[0] if self.inputs else None


class TableFunction(Protocol):
    """A table function whose rows are computed in Python, from at most one relation and constants.

    Both methods raise SqlError for arguments that do not fit the model.
    """

    def schema(self, call: TableCall) -> tuple[Field, ...]:
        """The columns of the result. They are known before anything runs, so that the statement around the call can be analysed."""

    def run(self, call: TableCall, rows: pa.RecordBatchReader | None) -> pa.RecordBatchReader:
        """The result, as a stream; `rows` has the columns of `call.input`."""


@dataclass(frozen=True, slots=True)
class RelationalFunction:
    """A table function that is itself a query. Its name stands for the query, and each backend has the query in its own dialect."""

    relations: int  # the number of tables or queries that it takes, as its first arguments
    parameters: Mapping[str, Type]  # the further arguments, which are named and optional
    schema: Callable[[Sequence[tuple[Field, ...]]], tuple[Field, ...]]
    """The columns of the result, given those of the relations. Raises SqlError for relations that do not fit."""


AnyTableFunction = TableFunction | RelationalFunction
