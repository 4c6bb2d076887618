"""Changes of a model between the moment a statement finds it and the moment the statement reads its files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sokuji.errors import ModelError, NotFoundError, SqlError
from sokuji.meta.objects import Ref
from sokuji.ml.functions import base
from sokuji.ml.functions.base import ModelFunction
from tests.ml.conftest import Workbench

M = Ref("d", "m")


@pytest.fixture(autouse=True)
def without_the_model(workbench: Workbench) -> Iterator[None]:
    yield
    workbench.sql("DROP MODEL IF EXISTS d.m")


def made(label: str, value: str, type_: str = "linear_reg", x: str = "x") -> str:
    options = f"model_type = '{type_}', input_label_cols = ['{label}'], data_split_method = 'NO_SPLIT'"
    return f"CREATE OR REPLACE MODEL d.m OPTIONS({options}) AS SELECT {x}, {value} AS {label} FROM UNNEST(GENERATE_ARRAY(1, 20)) AS {x}"


def meanwhile(monkeypatch: pytest.MonkeyPatch, where: type | Any, name: str, do: Callable[[], object]) -> None:
    """Do something once, just before the next call of a function."""
    real, waiting = getattr(where, name), [do]

    def first(*arguments: Any, **named: Any) -> Any:
        if waiting:
            waiting.pop()()
        return real(*arguments, **named)

    monkeypatch.setattr(where, name, first)


@pytest.mark.parametrize(
    ("replacement", "expected"),
    [
        (made("a", "2 + 0 * x"), [(2.0,)]),
        (made("a", "IF(x > 10, '8', '9')", "logistic_reg"), [("9",)]),
        (made("b", "2 + 0 * x"), "Unrecognized name: predicted_a"),
        (made("a", "2 + 0 * y", x="y"), "needs the columns y INT64"),
        ("DROP MODEL d.m", "Not found: Model d.m"),
    ],
)
def test_a_model_replaced_while_a_statement_is_analysed(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch, replacement: str, expected: list[Any] | str
) -> None:
    workbench.sql(made("a", "1 + 0 * x"))
    meanwhile(monkeypatch, ModelFunction, "run", lambda: workbench.sql(replacement))
    query = "SELECT predicted_a FROM ML.PREDICT(MODEL d.m, (SELECT 5 AS x))"
    if isinstance(expected, list):
        [(value,)] = workbench.sql(query).rows()
        assert [(round(value, 6) if isinstance(value, float) else value,)] == expected
    else:
        with pytest.raises((SqlError, NotFoundError), match=re.escape(expected)):
            workbench.sql(query).rows()


@pytest.mark.parametrize("call", ["ML.PREDICT(MODEL d.m, (SELECT 5 AS x))", "ML.EVALUATE(MODEL d.m)", "ML.WEIGHTS(MODEL d.m)"])
@pytest.mark.parametrize("then", ["", made("a", "1 + 0 * x")])
def test_a_model_dropped_while_its_files_are_read_is_not_damaged(
    workbench: Workbench, monkeypatch: pytest.MonkeyPatch, call: str, then: str
) -> None:
    workbench.sql(made("a", "1 + 0 * x"))

    def drop() -> None:
        workbench.store.delete(M)
        if then:
            workbench.sql(then)

    meanwhile(monkeypatch, base, "load", drop)
    if then:
        assert workbench.sql(f"SELECT COUNT(*) FROM {call}").rows()[0][0] in {1, 2}
    else:
        with pytest.raises((SqlError, NotFoundError), match=r"Not found: Model d\.m"):
            workbench.sql(f"SELECT * FROM {call}").rows()


def test_a_model_whose_files_are_gone_is_damaged(workbench: Workbench) -> None:
    workbench.sql(made("a", "1 + 0 * x"))
    (workbench.store.get(M).folder / "model.onnx").unlink()
    with pytest.raises(ModelError, match=r"model\.onnx is damaged.*restore it"):
        workbench.sql("SELECT * FROM ML.PREDICT(MODEL d.m, (SELECT 5 AS x))").rows()
