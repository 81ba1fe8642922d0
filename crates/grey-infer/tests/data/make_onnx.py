"""Makes mlp.onnx: two dense layers on eight numbers, sigmoid at the end.

Needs the package `onnx`. The weights are multiples of 1/16, so that the golden
values of the test can be computed by hand:
hidden[j] = relu(sum_i x[i] * ((i + j) % 5 - 2) / 16), j = 0..3
y = sigmoid(sum_j hidden[j] * (j + 1) / 16 - 0.25)
"""

import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

w1 = np.array([[((i + j) % 5 - 2) / 16 for j in range(4)] for i in range(8)], dtype=np.float32)
w2 = np.array([[(j + 1) / 16] for j in range(4)], dtype=np.float32)
b2 = np.array([-0.25], dtype=np.float32)
graph = helper.make_graph(
    [
        helper.make_node("MatMul", ["x", "w1"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "w2"], ["m"]),
        helper.make_node("Add", ["m", "b2"], ["s"]),
        helper.make_node("Sigmoid", ["s"], ["y"]),
    ],
    "mlp",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 8])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 1])],
    [numpy_helper.from_array(w1, "w1"), numpy_helper.from_array(w2, "w2"), numpy_helper.from_array(b2, "b2")],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
onnx.checker.check_model(model)
onnx.save(model, pathlib.Path(__file__).with_name("mlp.onnx"))
