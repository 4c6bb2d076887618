"""Write ONNX graphs.

The versions are fixed and not the newest: ONNX Runtime refuses models newer than itself, and every runtime since 1.18 reads these.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import onnx

OPSET = 18
ML_OPSET = 3
IR_VERSION = 9
ML_DOMAIN = "ai.onnx.ml"

FLOAT, INT64, STRING, DOUBLE = 1, 7, 8, 11
"""Element types, by their numbers in `onnx.TensorProto`."""


class _Node(NamedTuple):
    operator: str
    inputs: list[str]
    output: str
    domain: str
    attributes: dict[str, Any]


class Graph:
    """Collects nodes. Inputs have the names of the model's columns. All other names are generated, distinct from the inputs' names."""

    def __init__(self, inputs: Mapping[str, bool]) -> None:
        """Create a graph with `inputs`: column name -> whether it is a string (else float64). All have shape [N]."""
        self._inputs = dict(inputs)
        self._nodes: list[_Node] = []
        self._constants: dict[str, npt.NDArray[Any]] = {}
        self._taken = set(inputs)

    def input(self, name: str) -> Tensor:
        """The input tensor `name`."""
        return Tensor(self, name)

    def constant(self, value: npt.ArrayLike) -> Tensor:
        """Add a constant tensor, which is stored in the model."""
        name = self._unique(f"constant{len(self._constants)}")
        self._constants[name] = np.asarray(value)
        return Tensor(self, name)

    def node(self, operator: str, *inputs: Tensor, domain: str = "", **attributes: Any) -> Tensor:
        """Add a node and return its single output."""
        output = self._unique(f"{operator}{len(self._nodes)}")
        self._nodes.append(_Node(operator, [tensor.name for tensor in inputs], output, domain, attributes))
        return Tensor(self, output)

    def cast(self, tensor: Tensor, to: int) -> Tensor:
        """Convert a tensor to another element type."""
        return self.node("Cast", tensor, to=to)

    def build(self, outputs: Mapping[str, Tensor], ranks: Mapping[str, int]) -> onnx.ModelProto:
        """Build and check the model. Outputs are float64 of the given ranks; an output named like an input gets underscores appended."""
        import onnx  # this import takes a second of processor time, so it is done only here
        from onnx import helper, numpy_helper

        given = [helper.make_tensor_value_info(name, STRING if string else DOUBLE, ["N"]) for name, string in self._inputs.items()]
        nodes = [helper.make_node(each.operator, each.inputs, [each.output], domain=each.domain, **each.attributes) for each in self._nodes]
        infos = []
        for name, tensor in outputs.items():
            nodes.append(helper.make_node("Identity", [tensor.name], [self._unique(name)]))
            infos.append(helper.make_tensor_value_info(nodes[-1].output[0], DOUBLE, ["N", "K"][: ranks[name]]))
        constants = [numpy_helper.from_array(value, name) for name, value in self._constants.items()]
        graph = helper.make_graph(nodes, "sokuji", given, infos, initializer=constants)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(ML_DOMAIN, ML_OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="sokuji")
        onnx.checker.check_model(model)
        return model

    def _unique(self, name: str) -> str:
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name


@dataclass(frozen=True, slots=True)
class Tensor:
    """A named value in a graph, with arithmetic. Operands that are not tensors become float64 constants."""

    graph: Graph
    name: str

    def __add__(self, other: Tensor | npt.ArrayLike) -> Tensor:
        return self._binary("Add", other)

    def __sub__(self, other: Tensor | npt.ArrayLike) -> Tensor:
        return self._binary("Sub", other)

    def __mul__(self, other: Tensor | npt.ArrayLike) -> Tensor:
        return self._binary("Mul", other)

    def __truediv__(self, other: Tensor | npt.ArrayLike) -> Tensor:
        return self._binary("Div", other)

    def __matmul__(self, other: Tensor | npt.ArrayLike) -> Tensor:
        return self._binary("MatMul", other)

    def floor(self) -> Tensor:
        """The largest whole number not above the value, elementwise."""
        return self.graph.node("Floor", self)

    def _binary(self, operator: str, other: Tensor | npt.ArrayLike) -> Tensor:
        right = other if isinstance(other, Tensor) else self.graph.constant(np.asarray(other, dtype=np.float64))
        return self.graph.node(operator, self, right)


@dataclass(frozen=True, slots=True)
class Encoded:
    """Preprocessed rows inside a graph."""

    numbers: Tensor | None  # float64 [N, D]; None when D is 0
    codes: Sequence[tuple[Tensor, int]]  # int64 [N] and the number of known categories, per category feature


def total(terms: Sequence[Tensor]) -> Tensor:
    """The sum of one or more tensors."""
    result = terms[0]
    for term in terms[1:]:
        result += term
    return result
