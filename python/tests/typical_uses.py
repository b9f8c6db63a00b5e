"""Typical uses and the types they have. ``test_types.py`` has mypy check what is claimed, and runs it to see that it is so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Union, get_args, get_origin

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence

import tidegate

if TYPE_CHECKING:
    from typing_extensions import assert_type
else:

    def assert_type(value, kind):
        assert has(value, kind), f"{type(value)} is not of the type {kind}"


def has(value: Any, kind: Any) -> bool:
    """Whether ``value`` is of the type ``kind``."""
    parts = get_args(kind)
    if get_origin(kind) is Union:
        return any(has(value, part) for part in parts)
    if get_origin(kind) is tuple:
        return type(value) is tuple and len(value) == len(parts) and all(map(has, value, parts))
    if get_origin(kind) is list:
        return type(value) is list and all(has(part, parts[0]) for part in value)
    return isinstance(value, get_origin(kind) or kind)


def lstm() -> None:
    layer = tidegate.nn.LSTM(3, 5, num_layers=2, proj_size=4, device="cpu", dtype=torch.float32)
    x = torch.zeros(7, 2, 3)
    output, (h_n, c_n) = layer(x)
    assert_type(layer(x), tuple[Tensor, tuple[Tensor, Tensor]])
    assert_type(layer.forward(x, (h_n, c_n)), tuple[Tensor, tuple[Tensor, Tensor]])
    assert_type(layer(x, lengths=[7, 3]), tuple[Tensor, tuple[Tensor, Tensor]])
    assert_type(layer(x, resets=torch.zeros(7, 2, dtype=torch.bool)), tuple[Tensor, tuple[Tensor, Tensor]])
    assert_type(layer(x, return_cells=True), tuple[Tensor, tuple[Tensor, Tensor], list[Tensor]])
    packed = pack_sequence([x[:, 0], x[:4, 1]])
    assert_type(layer(packed), tuple[PackedSequence, tuple[Tensor, Tensor]])
    assert_type(layer(packed, (h_n, c_n)), tuple[PackedSequence, tuple[Tensor, Tensor]])
    assert_type(layer.prepack(), tidegate.nn.LSTM)
    assert_type(layer.proj_size, int)


def gru_and_rnn() -> None:
    x = torch.zeros(7, 2, 3)
    packed = pack_sequence([x[:, 0], x[:4, 1]])
    gru = tidegate.nn.GRU(3, 5, 1, True, False, 0.0, False)
    assert_type(gru(x, None, np.array([7, 3])), tuple[Tensor, Tensor])
    assert_type(gru(x, gru(x)[1], torch.tensor([7, 3]), np.zeros((7, 2), bool)), tuple[Tensor, Tensor])
    assert_type(gru(packed), tuple[PackedSequence, Tensor])
    assert_type(gru.prepack(False), tidegate.nn.GRU)
    rnn = tidegate.nn.RNN(3, 5, 2, "relu", bidirectional=True)
    assert_type(rnn(x), tuple[Tensor, Tensor])
    assert_type(rnn(x[:, 0], lengths=(7,), resets=[False] * 7), tuple[Tensor, Tensor])
    assert_type(rnn.forward(packed, None), tuple[PackedSequence, Tensor])
    assert_type(rnn.prepack(), tidegate.nn.RNN)


def cells() -> None:
    x = torch.zeros(2, 3)
    lstm = tidegate.nn.LSTMCell(3, 5, bias=False)
    assert_type(lstm(x, lstm(x)), tuple[Tensor, Tensor])
    gru = tidegate.nn.GRUCell(3, 5)
    assert_type(gru(x, gru.forward(x)), Tensor)
    rnn = tidegate.nn.RNNCell(3, 5, nonlinearity="relu")
    assert_type(rnn(x), Tensor)
    assert_type(rnn.prepack(), tidegate.nn.RNNCell)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(3, 5)

    def size(self) -> int:
        return self.rnn.hidden_size


class Residual(tidegate.nn.GRU):
    def __init__(self, size: int, **options: Any) -> None:
        super().__init__(size, size, **options)


def models() -> None:
    assert_type(tidegate.convert(Model()), Model)
    assert_type(tidegate.restore(tidegate.convert(Model())).size(), int)
    assert_type(Residual(3, batch_first=True)(torch.zeros(2, 7, 3)), tuple[Tensor, Tensor])
    assert_type(Residual(3).prepack(), Residual)


def files(path: str) -> None:
    """With the file of an LSTM."""
    assert_type(tidegate.inspect(path), list[dict[str, Any]])
    layer = tidegate.load(path, dtype=np.float32)
    assert_type(layer, tidegate.Layer)
    x = np.zeros((7, 2, layer.input_size), np.float32)
    output, state = layer(x)
    assert_type(output, np.ndarray)
    assert_type(state, Union[np.ndarray, tuple[np.ndarray, np.ndarray]])
    assert_type(layer.forward(x, state, lengths=np.array([7, 3]))[0], np.ndarray)
    stream = layer.stream(2)
    assert_type(stream, tidegate.Stream)
    assert_type(stream.push(x), np.ndarray)
    assert_type(stream.step(x[0]), np.ndarray)
    stream.state = stream.state
    stream.reset()


def mistakes(path: str, x: Tensor, packed: PackedSequence) -> None:
    """Each is an error to mypy, or it complains that nothing is ignored. Not run."""
    tidegate.nn.LSTM(3)  # type: ignore[call-arg]
    tidegate.nn.LSTM(3, "5")  # type: ignore[arg-type]
    tidegate.nn.GRU(3, 5, proj_size=2)  # type: ignore[call-arg]
    tidegate.nn.RNN(3, 5, 1, True)  # type: ignore[arg-type]
    lstm, gru = tidegate.nn.LSTM(3, 5), tidegate.nn.GRU(3, 5)
    lstm(x, x)  # type: ignore[call-overload]
    lstm(packed, lengths=[7, 3])  # type: ignore[call-overload]
    lstm(x, resets=[0.5])  # type: ignore[arg-type]
    gru(x, (x, x))  # type: ignore[call-overload]
    gru(x, return_cells=True)  # type: ignore[call-overload]
    output, h_n, cells = lstm(x)  # type: ignore[misc]
    lstm.prepack().prepacked()  # type: ignore[operator]
    tidegate.nn.GRUCell(3, 5)(x, (x, x))  # type: ignore[arg-type]
    tidegate.convert(x)  # type: ignore[type-var]
    tidegate.convert(Model()).sizes()  # type: ignore[operator]
    tidegate.lod(path)  # type: ignore[attr-defined]
    tidegate.load(path).forward(x, lengths=3)  # type: ignore[arg-type]
    tidegate.load(path).stream("2")  # type: ignore[arg-type]
    tidegate.load(path).stream().state = None  # type: ignore[assignment]
