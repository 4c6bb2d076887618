"""Runs the conformance suites and reports the outcome of every case.

`python -m tests.sql.conformance.runner` prints the counts of each file. With `--update` it writes the baseline of known failures.
With a part of a file's or case's name it prints those cases in full.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb

from sokuji.errors import SokujiError, SqlError, UnsupportedSqlError
from sokuji.sql.front.wasm import AnalyzerCrashError
from sokuji.types import Kind, Type
from tests.sql.conformance import expected
from tests.sql.conformance.blocks import Block, blocks
from tests.sql.conformance.engine import Engine, NotAQueryError, RefusedError, Rows, parameters, widened
from tests.sql.conformance.specs import Case, cases, same_rows

FOLDER = Path(__file__).parents[4] / "shared" / "conformance"
BASELINE = Path(__file__).with_name("baseline.txt")

# What a query's data can cause in DuckDB; every other error means that the SQL made from the statement was wrong.
DATA_ERRORS = (duckdb.ConversionException, duckdb.InvalidInputException, duckdb.OutOfRangeException)


@dataclass(frozen=True)
class Outcome:
    """How a case ended: "pass", "skip: ..." for what BigQuery has not, or a kind of failure."""

    case: str
    kind: str
    detail: str = ""


def run_file(path: Path, *, every: int = 1) -> Iterator[Outcome]:
    """Run every block of a `.test` file, or every case of a specification; of blocks that are queries, one of `every` so many."""
    if path.suffix == ".yaml":
        engine = Engine()
        for case in cases(path, FOLDER / "specs"):
            yield _run_case(engine, case)
        engine.close()
        return
    engine = Engine("America/Los_Angeles")
    missing: dict[str, str] = {}
    for block in _chosen(list(blocks(path)), every):
        if block.time_zone is not None:
            yield Outcome(f"{path.stem}:{block.name}", "skip: BigQuery's default time zone is UTC")
        elif block.prepares:
            _prepare(engine, block, missing)
        else:
            yield _run(engine, block, f"{path.stem}:{block.name}")
    engine.close()


def _chosen(of_file: list[Block], every: int) -> list[Block]:
    """One of `every` so many blocks that are queries, and of the tables those that another chosen block may read."""
    chosen = [block for number, block in enumerate(of_file) if block.prepares or number % every == 0]
    if every == 1:
        return chosen
    words = Counter(word for block in chosen for word in set(re.findall(r"\w+", block.statement.lower())))
    return [block for block in chosen if not block.prepares or any(words[name] > 1 for name in _tables(block))]


def _tables(block: Block) -> list[str]:
    return [name.lower() for name in re.findall(r"(?i)CREATE\s+TABLE\s+`?(\w+)", block.statement)]


def _run_case(engine: Engine, case: Case) -> Outcome:
    if not case.comparable:
        return Outcome(case.name, "skip: needs statements before it, or differs each time")
    got = _rows(engine, case.sql, {}, case.name, wanted_error=case.rows is None)
    if isinstance(got, Outcome):
        return got
    if case.rows is not None and same_rows(case.rows, got.rows, got.types, ordered=case.ordered):
        return Outcome(case.name, "pass")
    kind = "wrong"
    if "HLL_COUNT" in case.sql and any(type_.kind is Kind.BYTES for type_ in got.types):
        kind = "skip: the bytes of a sketch are each implementation's own"
    elif engine.agrees(case.sql, got):
        kind = "skip: GoogleSQL's own implementation says otherwise than the specification"
    return Outcome(case.name, kind, f"expected {case.rows}\ngot {got.rows[:20]}")


def _prepare(engine: Engine, block: Block, missing: dict[str, str]) -> None:
    try:
        engine.create(widened(block.statement))
    except (RefusedError, NotAQueryError, SokujiError, duckdb.Error) as error:
        missing[block.name] = str(error)


def _run(engine: Engine, block: Block, case: str) -> Outcome:
    if block.options.get("forbidden_features"):
        return Outcome(case, "skip: needs a feature of the language off")
    wanted_error = all(result.startswith("ERROR") for result in block.results)
    known = parameters(widened(block.options.get("parameters", "")))
    got = _rows(engine, widened(block.statement), known, case, wanted_error=wanted_error)
    return got if isinstance(got, Outcome) else _compare(got, block.results, case)


def _rows(engine: Engine, statement: str, known: dict[str, str], case: str, *, wanted_error: bool) -> Rows | Outcome:
    try:
        return engine.query(statement, known)
    except RefusedError as error:
        return Outcome(case, "pass" if wanted_error else "skip: not in BigQuery's dialect", str(error))
    except NotAQueryError as error:
        return Outcome(case, "skip: not a query", str(error))
    except AnalyzerCrashError as error:
        return Outcome(case, "crash", str(error))
    except UnsupportedSqlError as error:
        return Outcome(case, "unsupported", str(error))
    except (SqlError, *DATA_ERRORS) as error:
        return Outcome(case, "pass" if wanted_error else "error", str(error))
    except (SokujiError, duckdb.Error, LookupError, TypeError, ValueError, AttributeError, AssertionError) as error:
        return Outcome(case, "defect", f"{type(error).__name__}: {error}")


def _compare(got: Rows, results: list[str], case: str) -> Outcome:
    detail = ""
    for result in results:
        if result.startswith("ERROR"):
            detail = f"expected {result}\ngot {got.rows[:10]}"
            continue
        try:
            wanted = expected.rows(result, got.types, value_table=got.value_table)
        except expected.UnreadableError as error:
            return Outcome(case, "unreadable", f"{error}\n{result}")
        values = [row[0] for row in got.rows] if got.value_table else got.rows
        if expected.same_items(wanted, values, got.types[0] if got.value_table else _row(got.types)):
            return Outcome(case, "pass")
        detail = f"expected {result}\ngot {values[:20]}"
    if any(widened(result) != result for result in results):
        return Outcome(case, "skip: about number types BigQuery has not", detail)
    return Outcome(case, "wrong", detail)


def _row(types: list[Type]) -> Type:
    from sokuji.types import Field, struct

    return struct(Field("", type_) for type_ in types)


def files() -> list[Path]:
    """Every file of both suites."""
    return [*sorted((FOLDER / "googlesql-compliance").glob("*.test")), *sorted((FOLDER / "specs").rglob("*.yaml"))]


def read_baseline() -> dict[str, str]:
    """The known failures: the kind by the case's name."""
    lines = [line for line in BASELINE.read_text().splitlines() if line and not line.startswith("#")] if BASELINE.exists() else []
    return dict(line.split("\t")[:2] for line in lines)


def main(arguments: list[str]) -> None:
    """See the module's docstring."""
    wanted = next((argument for argument in arguments if not argument.startswith("--")), "")
    outcomes: list[Outcome] = []
    for path in files():
        if wanted and ":" not in wanted and wanted not in path.name:
            continue
        found = [outcome for outcome in run_file(path) if not wanted or wanted in f"{path.name}:{outcome.case}"]
        outcomes += found
        counts = Counter(outcome.kind.split(":")[0] for outcome in found)
        if found and path.suffix == ".test":
            print(f"{path.name:55} {dict(counts)}", flush=True)
        if wanted:
            for outcome in found:
                if outcome.kind != "pass" and not outcome.kind.startswith("skip"):
                    print(f"  {outcome.case}: {outcome.kind}: {outcome.detail[:1500]}")
    print(Counter(outcome.kind for outcome in outcomes))
    if "--update" in arguments:
        failures = [outcome for outcome in outcomes if outcome.kind != "pass" and not outcome.kind.startswith("skip")]
        lines = [f"{outcome.case}\t{outcome.kind}\t{' '.join(outcome.detail.split())[:120]}" for outcome in failures]
        BASELINE.write_text(
            "# case, kind of failure, detail; written by python -m tests.sql.conformance.runner --update\n" + "\n".join(lines) + "\n"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
