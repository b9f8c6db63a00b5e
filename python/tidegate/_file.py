"""Trained layers from files, run on numpy arrays; PyTorch is not needed."""

from __future__ import annotations

import os
from typing import Any, Optional, Sequence, Union

import numpy as np

from . import _core

State = Union[np.ndarray, "tuple[np.ndarray, np.ndarray]"]

# How the extension module takes an array: its address, sizes, and strides in elements;
Array = tuple[int, Sequence[int], Sequence[int]]
# or, if it is contiguous, its address and number of elements.
Block = tuple[int, int]


def inspect(path: "str | os.PathLike[str]") -> "list[dict[str, Any]]":
    """The recurrent layers in a file, each a dict: its ``name`` in the model, ``layer`` as PyTorch prints it, and sizes."""
    return _core.inspect(os.fspath(path))


def load(
    path: "str | os.PathLike[str]",
    layer: Optional[str] = None,
    dtype: Any = None,
    nonlinearity: Optional[str] = None,
) -> "Layer":
    """The recurrent layer called ``layer`` in the model that ``path`` holds, or its only one.

    It computes in ``dtype``, float32 or float64; in that of its parameters in the file if that is one of them, else in float32.
    A file does not say whether an RNN applies tanh or relu: ``nonlinearity`` does, tanh by default. Threads are as many as the
    machine runs at once, or ``TIDEGATE_NUM_THREADS`` in the environment.

    Raises ``OSError`` if there is no such file, and ``ValueError`` if it does not hold such a layer.
    """
    if dtype is not None:
        dtype = np.dtype(dtype)
        if dtype not in (np.float32, np.float64):
            raise TypeError(f"expected dtype float32 or float64, got {dtype}")
    double = None if dtype is None else bool(dtype == np.float64)
    return Layer(*_core.load(os.fspath(path), layer, double, nonlinearity))


def _described(array: np.ndarray) -> Array:
    """Address, sizes, and strides in elements."""
    return array.ctypes.data, array.shape, [stride // array.itemsize for stride in array.strides]


def _block(array: np.ndarray) -> Block:
    return array.ctypes.data, array.size


class Layer:
    """A trained stack of layers; made by :func:`load`."""

    def __init__(self, core: _core.Layer, description: "dict[str, Any]") -> None:
        self._core, self._dtype = core, np.dtype(np.float64 if description["double"] else np.float32)
        self.input_size: int = description["input_size"]
        self.hidden_size: int = description["hidden_size"]
        self.num_layers: int = description["num_layers"]
        self.num_directions: int = description["num_directions"]
        self.output_size: int = description["output_size"]
        self._has_cells: bool = description["has_cell_state"]

    def __repr__(self) -> str:
        return f"<tidegate.Layer {self._core!r}, {self._dtype}>"

    def _array(self, name: str, value: Any, shape: "tuple[int, ...]") -> np.ndarray:
        """``value`` as an array of our type; -1 in ``shape`` stands for any size."""
        value = np.asarray(value)
        if value.dtype.kind not in "fiub":
            raise TypeError(f"{name}: expected real numbers, got {value.dtype}")
        value = value.astype(self._dtype, copy=False)
        if not (value.flags.aligned and all(stride % value.itemsize == 0 for stride in value.strides)):
            value = value.copy()
        if value.ndim != len(shape) or any(want not in (-1, got) for want, got in zip(shape, value.shape)):
            wanted = ", ".join("*" if size == -1 else str(size) for size in shape)
            raise ValueError(f"{name}: expected shape ({wanted}), got {value.shape}")
        return value

    def _state(self, state: "State | None", batch: int) -> "tuple[np.ndarray, ...] | None":
        if state is None:
            return None
        scans = self.num_layers * self.num_directions
        if not self._has_cells:
            return (self._array("state", state, (scans, batch, self.output_size)),)
        if not isinstance(state, (tuple, list)) or len(state) != 2:
            raise TypeError("state: expected the pair (h, c) of an LSTM")
        h = self._array("h of the state", state[0], (scans, batch, self.output_size))
        return h, self._array("c of the state", state[1], (scans, batch, self.hidden_size))

    def _empty_state(self, batch: int) -> "tuple[np.ndarray, ...]":
        scans = self.num_layers * self.num_directions
        sizes = (self.output_size, self.hidden_size) if self._has_cells else (self.output_size,)
        return tuple(np.zeros((scans, batch, size), self._dtype) for size in sizes)

    def forward(
        self, x: Any, state: "State | None" = None, lengths: "Sequence[int] | np.ndarray | None" = None
    ) -> "tuple[np.ndarray, State]":
        """Runs the layer over ``x: [T, B, I]``, or ``[T, I]`` for one sequence, from ``state`` or zeros.

        Returns the output ``[T, B, D*P]`` and the final state, ``h: [L*D, B, P]`` or the pair with ``c: [L*D, B, H]`` of an
        LSTM. ``lengths`` gives the steps of each sequence, if not all ``T``; the output past them is zero.
        """
        last: Any
        x = np.asarray(x)
        if x.ndim == 2:
            first: Any = state
            if state is not None:
                pair = isinstance(state, (tuple, list))
                first = tuple(np.asarray(part)[:, None] for part in state) if pair else np.asarray(state)[:, None]
            output, last = self.forward(x[:, None], first, lengths)
            return output[:, 0], tuple(part[:, 0] for part in last) if self._has_cells else last[:, 0]
        x = self._array("x", x, (-1, -1, self.input_size))
        steps, batch = x.shape[:2]
        if lengths is not None:
            lengths = [int(length) for length in lengths]
            if any(length < 0 for length in lengths):
                raise ValueError(f"lengths: expected none below 0, got {min(lengths)}")
        first, last = self._state(state, batch), self._empty_state(batch)
        output = np.zeros((steps, batch, self.num_directions * self.output_size), self._dtype)
        described = first and (_described(first[0]), _described(first[1]) if self._has_cells else None)
        results = (_block(output), _block(last[0]), _block(last[1]) if self._has_cells else None)
        self._core.forward(_described(x), described, results, lengths)
        return output, last if self._has_cells else last[0]

    __call__ = forward

    def stream(self, batch: int = 1) -> "Stream":
        """A running state of ``batch`` sequences, from zeros; not of a bidirectional layer."""
        return Stream(self, batch)


class Stream:
    """A running state: what has been computed of a stream does not depend on the pieces it came in, to the last bit."""

    def __init__(self, layer: Layer, batch: int) -> None:
        self._layer, self._batch = layer, int(batch)
        if self._batch < 0:
            raise ValueError(f"batch: expected at least 0, got {batch}")
        self._core = _core.Stream(layer._core, self._batch)

    def step(self, x: Any) -> np.ndarray:
        """One step of ``x: [B, I]`` (or ``[I]`` of one sequence): the output, ``[B, P]`` (or ``[P]``)."""
        x = np.asarray(x)
        return self.push(x[None])[0]

    def push(self, chunk: Any) -> np.ndarray:
        """The next steps, ``[T, B, I]`` (or ``[T, I]`` of one sequence): their outputs."""
        chunk = np.asarray(chunk)
        alone = chunk.ndim == 2
        if alone:
            chunk = chunk[:, None]
        chunk = np.ascontiguousarray(self._layer._array("x", chunk, (-1, self._batch, self._layer.input_size)))
        output = np.zeros((*chunk.shape[:2], self._layer.output_size), self._layer._dtype)
        self._core.push(_block(chunk), _block(output))
        return output[:, 0] if alone else output

    @property
    def state(self) -> State:
        """A copy of the state: ``h: [L, B, P]``, or the pair with ``c: [L, B, H]`` of an LSTM. May be set."""
        state: Any = self._layer._empty_state(self._batch)
        self._core.read_state(_block(state[0]), _block(state[1]) if len(state) > 1 else None)
        return state if len(state) > 1 else state[0]

    @state.setter
    def state(self, state: State) -> None:
        parts = self._layer._state(state, self._batch)
        if parts is None:
            raise TypeError("state: expected a state, got None; reset() begins anew from zeros")
        self._core.set_state(_described(parts[0]), _described(parts[1]) if len(parts) > 1 else None)

    def reset(self) -> None:
        """Begins anew from zeros."""
        self._core.reset()
