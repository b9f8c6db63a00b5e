"""A row of the grid with its files, as tidegate-bench-worker writes them."""

import os

import numpy as np

STREAM_STEPS = 8


class Row:
    """A row with its input, parameters and our answer."""

    def __init__(self, request):
        self.__dict__.update(request)
        self.step = self.mode == "step"
        self.states = 2 if self.cell == "lstm" else 1
        self.gates = 4 if self.cell == "lstm" else 3
        steps = STREAM_STEPS if self.step else self.T
        self.onnx = os.path.join(self.folder, "model.onnx")
        self.train = self.mode == "train"
        self.x = self.read("x", [steps, self.B, self.I])
        # Outputs; in training, the gradients of all parameters.
        self.answer = self.read("answer", [-1] if self.train else [steps, self.B, self.D * self.H])

    def read(self, name, shape):
        return np.fromfile(os.path.join(self.folder, name), "<f4").reshape(shape)

    def inputs(self, layer):
        return self.I if layer == 0 else self.D * self.H

    def parameters(self, layer, direction):
        """weight_ih, weight_hh, bias_ih, bias_hh."""
        rows, end = self.gates * self.H, f"l{layer}" + ("_reverse" if direction else "")
        shapes = {"weight_ih": [rows, self.inputs(layer)], "weight_hh": [rows, self.H],
                  "bias_ih": [rows], "bias_hh": [rows]}
        return [self.read(f"{name}_{end}", shape) for name, shape in shapes.items()]
