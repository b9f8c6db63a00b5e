"""Writes a row of the grid as an ONNX file, for the engines that read one."""

import numpy as np
import onnx
from onnx import helper as h, numpy_helper

# Gates in PyTorch's order (i f g o, r z n) as ONNX wants them (i o f c, z r h).
ONNX_GATES = {"lstm": [0, 3, 1, 2], "gru": [1, 0, 2]}


def write(row):
    """Writes the row's layers as a chain of ONNX nodes. Inputs x (and lengths, h0, c0), output y (hn, cn)."""
    floats, nodes, tensors = onnx.TensorProto.FLOAT, [], []
    constant = lambda name, array: tensors.append(numpy_helper.from_array(array, name)) or name
    steps = 1 if row.step else row.T
    inputs = [h.make_tensor_value_info("x", floats, [steps, row.B, row.I])]
    outputs = [h.make_tensor_value_info("y", floats, [steps, row.B, row.D * row.H])]
    lengths = ""
    if row.ragged:
        lengths = constant("lengths", np.array(row.lengths, np.int32))
    state = ["", ""]
    if row.step:
        for k in range(row.states):
            state[k] = "hc"[k] + "0"
            inputs.append(h.make_tensor_value_info(state[k], floats, [1, row.B, row.H]))
            outputs.append(h.make_tensor_value_info("hc"[k] + "n", floats, [1, row.B, row.H]))
    below = "x"
    for layer in range(row.L):
        order = [row.H * g + k for g in ONNX_GATES[row.cell] for k in range(row.H)]
        parts = [row.parameters(layer, d) for d in range(row.D)]
        w = constant(f"w{layer}", np.stack([p[0][order] for p in parts]))
        r = constant(f"r{layer}", np.stack([p[1][order] for p in parts]))
        b = constant(f"b{layer}", np.stack([np.concatenate([p[2][order], p[3][order]]) for p in parts]))
        arguments = [below, w, r, b, lengths] + (state[: row.states] if row.step else [])
        while arguments[-1] == "":
            arguments.pop()
        results = [f"raw{layer}"] + [("hc"[k] + "n") if row.step else "" for k in range(row.states)]
        options = {"hidden_size": row.H, "direction": "bidirectional" if row.D == 2 else "forward"}
        if row.cell == "gru":
            options["linear_before_reset"] = 1
        nodes.append(h.make_node(row.cell.upper(), arguments, results if row.step else results[:1], **options))
        above = "y" if layer + 1 == row.L else f"y{layer}"
        if row.D == 1:
            axis = constant(f"axis{layer}", np.array([1], np.int64))
            nodes.append(h.make_node("Squeeze", [f"raw{layer}", axis], [above]))
        else:
            shape = constant(f"shape{layer}", np.array([steps, row.B, row.D * row.H], np.int64))
            nodes.append(h.make_node("Transpose", [f"raw{layer}"], [f"turned{layer}"], perm=[0, 2, 1, 3]))
            nodes.append(h.make_node("Reshape", [f"turned{layer}", shape], [above]))
        below = above
    graph = h.make_graph(nodes, "row", inputs, outputs, tensors)
    onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", 14)], ir_version=8), row.onnx)
