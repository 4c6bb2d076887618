"""A saved model: what its gate accepts, what it refuses to load, and that its predictions stay the same."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pyarrow as pa
import pytest

from sokuji.errors import ModelError
from sokuji.ml.base import PREDICTION, Trained
from sokuji.ml.columns.encoded import Design
from sokuji.ml.estimators.linear import Linear
from sokuji.ml.graph import Encoded, Graph, Tensor
from sokuji.ml.serving.artefact import build_graph, load, save
from sokuji.ml.serving.parity import TOLERANCE, adversarial, difference
from sokuji.ml.serving.predictor import Predictor
from sokuji.ml.serving.runtime import GraphSession
from sokuji.ml.values import Floats
from tests.ml.tasks import native, served, trained_on


def visits(rows: int = 1200) -> pa.Table:
    random = np.random.default_rng(0)
    seconds = random.integers(1_600_000_000, 1_700_000_000, rows)
    return pa.table(
        {
            "pages": pa.array(random.poisson(5, rows), mask=random.random(rows) < 0.1),
            "spent": random.exponential(1e6, rows) * random.choice([1, -1], rows),
            "device": [None if number == 0 else f"device {number}" for number in random.integers(0, 20, rows)],
            "member": pa.array(random.random(rows) < 0.3, mask=random.random(rows) < 0.1),
            "at": pa.array([None if value % 10 == 0 else datetime.fromtimestamp(value, UTC) for value in seconds.tolist()]),
            "place": [
                {"country": country, "latitude": float(number)} for number, country in enumerate(["JP", "", "FR", "JP"] * (rows // 4))
            ],
        }
    )


def labelled(model_type: str) -> pa.Table:
    rows = visits()
    pages = np.nan_to_num(rows["pages"].to_numpy())
    labels = {"KMEANS": None, "LINEAR_REG": pages * 2.5, "BOOSTED_TREE_REGRESSOR": pages * 1e5}.get(model_type, pages > 4)
    return rows if labels is None else rows.append_column("label", pa.array(labels))


MODEL_TYPES = ["KMEANS", "LINEAR_REG", "LOGISTIC_REG", "BOOSTED_TREE_CLASSIFIER", "BOOSTED_TREE_REGRESSOR"]


def trained(model_type: str) -> tuple[Trained, pa.Table]:
    rows = labelled(model_type)
    return trained_on(model_type, rows, label="label" if "label" in rows.column_names else None), rows


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_every_model_type_passes_the_gate_and_comes_back_as_it_was(model_type: str, tmp_path: Path) -> None:
    model, rows = trained(model_type)

    serving = save(model, tmp_path, rows)

    assert (serving.serving, serving.reason) == ("onnx", "")
    assert serving.rows > 1200  # the real rows, and adversarial ones
    assert serving.max_difference < 1e-6
    found, found_serving = load(tmp_path)
    assert found_serving == serving
    assert (found.classes, found.history, found.feature_info) == (model.classes, model.history, model.feature_info)
    assert found.preprocessing == model.preprocessing
    np.testing.assert_array_equal(native(found, rows), native(model, rows))
    (batch,) = rows.combine_chunks().to_batches()
    (answers,) = Predictor(tmp_path).predict(batch).values()
    np.testing.assert_allclose(answers, native(model, rows), rtol=1e-5, atol=1e-6)
    assert {path.name for path in tmp_path.iterdir()} >= {"model.onnx", "preprocessing.json", "training.json", "golden.arrow", "MLmodel"}


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_one_row_alone_gets_the_answer_it_gets_among_others(model_type: str, tmp_path: Path) -> None:
    model, rows = trained(model_type)
    together = served(model, rows, tmp_path)
    predictor = Predictor(tmp_path)
    for position in range(0, rows.num_rows, 97):
        (batch,) = rows.slice(position, 1).combine_chunks().to_batches()
        (alone,) = predictor.predict(batch).values()
        np.testing.assert_allclose(alone[0], together[position], rtol=1e-6, atol=1e-9)


def test_a_graph_has_one_named_input_a_column_and_fixed_versions(tmp_path: Path) -> None:
    model, rows = trained("LOGISTIC_REG")
    served(model, rows, tmp_path)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    double, text = "tensor(double)", "tensor(string)"
    assert [(node.name, node.type, node.shape) for node in session.get_inputs()] == [
        ("pages", double, ["N"]),
        ("spent", double, ["N"]),
        ("device", text, ["N"]),
        ("member", double, ["N"]),
        ("at", double, ["N"]),
        ("place_country", text, ["N"]),
        ("place_latitude", double, ["N"]),
    ]
    assert [(node.name, node.type, node.shape) for node in session.get_outputs()] == [("probabilities", double, ["N", 2])]
    document = onnx.load(tmp_path / "model.onnx")
    assert document.ir_version == 9
    assert {opset.domain: opset.version for opset in document.opset_import} == {"": 18, "ai.onnx.ml": 3}


@pytest.mark.parametrize("name", ["prediction", "constant0", "Reshape3", "N", "two words", "日本", "_null_filler", "a\nb"])
def test_a_column_may_have_any_name(name: str, tmp_path: Path) -> None:
    rows = pa.table({name: [1.0, 2.0, 3.0, 4.0] * 10, "label": [2.0, 4.0, 6.0, 8.0] * 10})
    np.testing.assert_allclose(served(trained_on("LINEAR_REG", rows, label="label"), rows, tmp_path), rows["label"].to_numpy())


class Wrong(Linear):
    """A model whose graph is wrong for one kind of row only: where the category is NULL."""

    def export(self, graph: Graph, encoded: Encoded) -> dict[str, Tensor]:
        right = super().export(graph, encoded)[PREDICTION]
        codes, size = encoded.codes[0]
        null = graph.cast(graph.node("Equal", codes, graph.constant(np.array(size - 1))), onnx.TensorProto.DOUBLE)
        return {PREDICTION: right + null * 0.01}


class Unloadable(Linear):
    """A model whose graph is right, and not implemented in ONNX Runtime: Atanh of float64."""

    def export(self, graph: Graph, encoded: Encoded) -> dict[str, Tensor]:
        right = super().export(graph, encoded)[PREDICTION]
        return {PREDICTION: graph.node("Atanh", right)}


def without_nulls() -> pa.Table:
    return pa.table({"x": [1.0, 2.0, 3.0, 4.0] * 10, "kind": ["a", "b"] * 20, "label": [2.0, 4.0, 6.0, 8.0] * 10})


def test_what_fails_the_gate_is_served_natively_and_says_why(tmp_path: Path) -> None:
    rows = without_nulls()
    right = trained_on("LINEAR_REG", rows, label="label")
    assert isinstance(right.estimator, Linear)
    wrong = replace(right, estimator=Wrong(right.estimator.weights, right.estimator.intercept, False))

    serving = save(wrong, tmp_path, rows)

    assert serving.serving == "native"
    assert serving.reason.startswith("ONNX differs from the trained model by 0.01,")  # of a prediction below 1
    new = pa.table({"x": [1.0], "kind": pa.array([None], pa.string())})
    (answer,) = Predictor(tmp_path).predict(new.to_batches()[0]).values()
    np.testing.assert_array_equal(answer, native(right, new))


@pytest.mark.parametrize("model_type", ["KMEANS", "LINEAR_REG", "LOGISTIC_REG"])
def test_adversarial_rows_show_any_one_number_of_a_graph_that_is_wrong(model_type: str) -> None:
    rows = without_nulls()
    if model_type == "LOGISTIC_REG":
        rows = rows.set_column(2, "label", pa.array([True, False, False, False] * 10))
    model = trained_on(model_type, rows, label=None if model_type == "KMEANS" else "label")
    columns = adversarial(model.preprocessing, model.preprocessing.read(rows))
    right = model.estimator.predict(model.preprocessing.transform(columns))
    graph = build_graph(model)
    assert difference(right, GraphSession(graph.SerializeToString()).run(columns)) < 1e-6
    tables = [table for table in graph.graph.initializer if np.prod(table.dims) > 1 and table.data_type == onnx.TensorProto.DOUBLE]
    assert tables
    for table in tables:
        values = onnx.numpy_helper.to_array(table)
        for place in np.ndindex(values.shape):
            changed = values.copy()
            changed[place] = changed[place] * 1.05 + 0.05
            table.CopyFrom(onnx.numpy_helper.from_array(changed, table.name))
            assert difference(right, GraphSession(graph.SerializeToString()).run(columns)) > TOLERANCE, (table.name, place)
        table.CopyFrom(onnx.numpy_helper.from_array(values, table.name))


def test_a_graph_that_cannot_be_loaded_is_not_served(tmp_path: Path) -> None:
    rows = without_nulls()
    right = trained_on("LINEAR_REG", rows, label="label")
    assert isinstance(right.estimator, Linear)
    unloadable = replace(right, estimator=Unloadable(right.estimator.weights, right.estimator.intercept, False))
    serving = save(unloadable, tmp_path, rows)
    assert serving.serving == "native"
    assert "cannot load the model's graph" in serving.reason
    (answer,) = Predictor(tmp_path).predict(rows.to_batches()[0]).values()
    np.testing.assert_array_equal(answer, native(right, rows))


def test_adversarial_rows_try_null_in_each_column_and_every_category() -> None:
    model, rows = trained("LOGISTIC_REG")
    real = model.preprocessing.read(rows)
    made = adversarial(model.preprocessing, real)
    for name, values in made.items():
        found = values.to_pylist() if isinstance(values, pa.Array) else values
        if isinstance(values, pa.Array):
            assert {"_null_filler", ""} <= set(found)
        else:
            assert np.isnan(found).any(), name
            assert np.isinf(found).any(), name
    devices = set(made["device"].to_pylist())
    assert {f"device {number}" for number in range(1, 20)} < devices
    assert any("unseen" in device for device in devices)


@pytest.mark.parametrize(
    ("native_answer", "graph_answer", "apart"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([1.0, np.nan, np.inf], [1.0, np.nan, np.inf], 0.0),
        ([0.5], [0.25], 0.25),
        ([1000.0], [1001.0], 0.001),
        ([np.nan], [1.0], np.inf),
        ([1.0], [np.nan], np.inf),
        ([np.inf], [-np.inf], np.inf),
        ([1.0, 2.0], [[1.0, 2.0]], np.inf),
    ],
)
def test_differences_are_absolute_up_to_1_and_relative_beyond(native_answer: Any, graph_answer: Any, apart: float) -> None:
    assert difference({"a": np.array(native_answer)}, {"a": np.array(graph_answer)}) == pytest.approx(apart)


@pytest.mark.parametrize("model_type", ["KMEANS", "LINEAR_REG"])
def test_a_model_that_answers_differently_than_when_trained_is_not_loaded(model_type: str, tmp_path: Path) -> None:
    model, rows = trained(model_type)
    save(model, tmp_path, rows)
    other, _ = (trained_on(model_type, labelled(model_type).slice(0, 300), label="label" if model_type != "KMEANS" else None), rows)
    (tmp_path / "model.onnx").write_bytes(build_graph(other).SerializeToString())
    with pytest.raises(ModelError, match="answers differently than when it was trained"):
        Predictor(tmp_path)


@pytest.mark.parametrize("file", ["training.json", "preprocessing.json", "linear.json", "golden.arrow", "model.onnx"])
@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_damaged_folder_is_named(file: str, damage: str, tmp_path: Path) -> None:
    model, rows = trained("LINEAR_REG")
    save(model, tmp_path, rows)
    content = (tmp_path / file).read_bytes()
    (tmp_path / file).unlink()
    if damage == "cut":
        (tmp_path / file).write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match=r"cannot be read|cannot load"):
        Predictor(tmp_path)


def test_threads_share_a_predictor(tmp_path: Path) -> None:
    model, rows = trained("BOOSTED_TREE_CLASSIFIER")
    expected = served(model, rows, tmp_path)
    predictor = Predictor(tmp_path, threads=2)
    (batch,) = rows.combine_chunks().to_batches()
    answers: list[Mapping[str, Floats]] = []

    def work() -> None:
        answers.extend(predictor.predict(batch) for _ in range(5))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 20
    for answer in answers:  # two threads add up trees in another order
        np.testing.assert_allclose(answer["probabilities"], expected, rtol=1e-5)


def test_estimators_predict_nothing_for_no_rows(tmp_path: Path) -> None:
    model, rows = trained("KMEANS")
    served(model, rows, tmp_path)
    schema = rows.schema
    empty = pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)
    assert Predictor(tmp_path).predict(empty)["distances"].shape == (0, len(model.history[-1].clusters))
    assert Design(np.empty((0, 2)), (), ()).dense().shape == (0, 2)
