"""``torch.nn``'s recurrent layers and cells, computed by tidegate: drop-ins with PyTorch's arguments, attributes and errors.

A call of the most common kind is all ours (``_vf.direct``). Every other runs the code of PyTorch's own class, in which the function
that does the arithmetic is replaced by ours (``_stock.py``, ``_vf.py``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Literal, Mapping, Sequence, TypeVar, Union, overload

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules import rnn as stock
from torch.nn.utils.rnn import PackedSequence
from typing_extensions import Self

from . import _call, _vf
from ._call import Extra
from ._stock import ours

if TYPE_CHECKING:
    # Type checkers are told more than stands there at run time: what constructors take, which hand on to PyTorch whatever comes,
    # and that a call is one of forward, which PyTorch does not tell them.
    from torch.types import Device

    F = TypeVar("F", bound=Callable[..., Any])

    def _typed_as(function: F) -> Callable[[Any], F]: ...

__all__ = ["GRU", "GRUCell", "LSTM", "LSTMCell", "RNN", "RNNBase", "RNNCell", "convert", "restore"]

Pair = tuple[Tensor, Tensor]
Lengths = Union[Tensor, np.ndarray, Sequence[int], None]
Resets = Union[Tensor, np.ndarray, Sequence[Sequence[bool]], Sequence[bool], None]
M = TypeVar("M", bound=nn.Module)

_lstm_forward, _gru_forward, _rnn_forward = map(ours, (nn.LSTM.forward, nn.GRU.forward, nn.RNN.forward))
_lstm_cell_forward, _gru_cell_forward, _rnn_cell_forward = map(
    ours, (nn.LSTMCell.forward, nn.GRUCell.forward, nn.RNNCell.forward)
)


class Prepack:
    """What our layers and cells have beside what PyTorch's have."""

    def prepack(self, on: bool = True) -> Self:
        """Takes the weights as unchanged in calls without gradients until PyTorch counts a change, rather than looking at them in
        every call; returns the module.

        For a few steps of a large layer, looking at them takes longer than computing. What PyTorch does not count is then
        missed: writes through ``.data`` or numpy. Optimizers, ``load_state_dict`` and other in-place functions are counted.
        """
        self._prepacked = bool(on)
        return self


class RNNBase(Prepack, stock.RNNBase):
    """What LSTM, GRU and RNN have in common: ``torch.nn.RNNBase``, and arguments of a call that PyTorch does not have."""

    def _run(self, pytorchs: Callable[..., Any], x: Any, hx: Any, lengths: Any, resets: Any, return_cells: bool = False) -> Any:
        """A call: the quick way if it is one for that, or else by PyTorch's code, or by ours if it has what PyTorch's has not."""
        found = None if resets is not None or return_cells else _vf.direct(self, x, hx, lengths)
        if found is not None:
            return found
        if lengths is None and resets is None and not return_cells:
            return pytorchs(self, x, hx)
        return self._with_extra(x, hx, lengths, resets, return_cells)

    def _with_extra(self, x: Any, hx: Any, lengths: Any, resets: Any, return_cells: bool) -> Any:
        """A call with ``lengths``, ``resets`` or ``return_cells``."""
        if isinstance(x, nn.utils.rnn.PackedSequence):
            raise TypeError("lengths, resets and return_cells are for tensors: a PackedSequence has lengths of its own")
        if x.dim() not in (2, 3):
            raise ValueError(f"{self._get_name()}: Expected input to be 2D or 3D, got {x.dim()}D instead")
        self._update_flat_weights()
        alone = x.dim() == 2
        batch_first = self.batch_first and not alone
        if alone:
            x = x.unsqueeze(1)
            if hx is not None:
                hx = tuple(part.unsqueeze(1) for part in hx) if self.mode == "LSTM" else hx.unsqueeze(1)
        steps, batch = (x.shape[1], x.shape[0]) if batch_first else x.shape[:2]
        state = self._state(x, hx, batch)
        extra = Extra(None, _lengths(lengths, steps, batch), _resets(resets, steps, batch, batch_first, alone))
        weights: Any = self._flat_weights
        called = _vf.prepare(self.mode, x, state, weights, self.bias, self.num_layers, self.bidirectional, batch_first, extra)
        if called is None:
            raise RuntimeError(
                "lengths, resets and return_cells need an input of the sizes and type of the layer, float32 or float64 on the CPU; "
                f"got {tuple(x.shape)} of {x.dtype} on {x.device} for {self}"
            )
        dropout = self.dropout if self.training else 0.0
        results = _vf.layers(called[0], extra, x, state, weights, dropout, batch_first, called[1])
        cells = self._cells(called[0], extra, x, state, batch_first) if return_cells else None
        if alone:
            results = tuple([part.squeeze(1) for part in results])
            cells = cells and [layer.squeeze(1) for layer in cells]
        hidden = tuple(results[1:]) if self.mode == "LSTM" else results[1]
        return (results[0], hidden) if cells is None else (results[0], hidden, cells)

    def _state(self, x: Tensor, hx: Any, batch: int) -> list[Tensor]:
        scans = self.num_layers * (2 if self.bidirectional else 1)
        sizes = [self.proj_size or self.hidden_size] + ([self.hidden_size] if self.mode == "LSTM" else [])
        if hx is None:
            return [torch.zeros(scans, batch, size, dtype=x.dtype, device=x.device) for size in sizes]
        state = list(hx) if self.mode == "LSTM" else [hx]
        for k, (part, size) in enumerate(zip(state, sizes)):
            name = f"hidden[{k}]" if self.mode == "LSTM" else "hidden"
            self.check_hidden_size(part, (scans, batch, size), f"Expected {name} size {{}}, got {{}}")
        return state

    def _cells(self, config: _call.Config, extra: Extra, x: Tensor, state: list[Tensor], batch_first: bool) -> list[Tensor]:
        """The cell states of every step, of each layer a tensor laid out as the output; without gradient."""
        if self.mode != "LSTM":
            raise RuntimeError(f"return_cells: {self._get_name()} has no cell state")
        if self.training and self.dropout and self.num_layers > 1:
            raise RuntimeError("return_cells: not with dropout in training, whose masks are drawn once")
        with torch.no_grad():
            x = (x.transpose(0, 1) if batch_first else x).detach()
            h, c = state
            weights: Any = self._flat_weights
            _, saved = _call.forward(config, extra, x, h, c, weights, True)
            found = []
            for k in range(config.num_layers):
                cells = torch.empty((*x.shape[:2], config.directions * config.hidden_size), dtype=x.dtype)
                saved.cell_states(k, cells)
                found.append(cells.transpose(0, 1) if batch_first else cells)
            return found


def _lengths(lengths: Any, steps: int, batch: int) -> list[int] | Tensor | None:
    """The lengths as a list; as a tensor where they are to be traced."""
    if lengths is None:
        return None
    if torch.compiler.is_compiling():
        return torch.as_tensor(lengths, dtype=torch.int64)
    lengths = torch.as_tensor(lengths, device="cpu")
    if lengths.numel() and (lengths.is_floating_point() or lengths.is_complex() or lengths.dtype == torch.bool):
        raise TypeError(f"Expected lengths of whole numbers, got {lengths.dtype}")
    if lengths.shape != (batch,):
        raise ValueError(f"Expected lengths of shape ({batch},), got {tuple(lengths.shape)}")
    lengths = lengths.tolist()
    if lengths and not 0 <= min(lengths) <= max(lengths) <= steps:
        raise ValueError(f"Expected lengths from 0 to {steps}, got {lengths}")
    return lengths


def _resets(resets: Any, steps: int, batch: int, batch_first: bool, alone: bool) -> Tensor | None:
    if resets is None:
        return None
    resets = torch.as_tensor(resets, device="cpu")
    if resets.dtype != torch.bool:
        raise TypeError(f"Expected resets of dtype torch.bool, got {resets.dtype}")
    resets = resets.unsqueeze(1) if alone and resets.dim() == 1 else resets
    expected = (batch, steps) if batch_first else (steps, batch)
    if resets.shape != expected:
        raise ValueError(f"Expected resets of shape {expected}, got {tuple(resets.shape)}")
    return resets.transpose(0, 1) if batch_first else resets


class LSTM(RNNBase):
    """``torch.nn.LSTM``, computed by tidegate."""

    if TYPE_CHECKING:

        def __init__(
            self,
            input_size: int,
            hidden_size: int,
            num_layers: int = 1,
            bias: bool = True,
            batch_first: bool = False,
            dropout: float = 0.0,
            bidirectional: bool = False,
            proj_size: int = 0,
            device: Device = None,
            dtype: torch.dtype | None = None,
        ) -> None: ...

    else:

        def __init__(self, *args, **kwargs):
            super().__init__("LSTM", *args, **kwargs)

    get_expected_cell_size = nn.LSTM.get_expected_cell_size
    # As in PyTorch's class: with a pair where the base has a tensor.
    check_forward_args = nn.LSTM.check_forward_args  # type: ignore[assignment]
    permute_hidden = nn.LSTM.permute_hidden  # type: ignore[assignment]

    @overload
    def forward(
        self,
        input: Tensor,
        hx: Pair | None = None,
        lengths: Lengths = None,
        resets: Resets = None,
        return_cells: Literal[False] = False,
    ) -> tuple[Tensor, Pair]: ...

    @overload
    def forward(
        self, input: Tensor, hx: Pair | None = None, lengths: Lengths = None, resets: Resets = None, *, return_cells: Literal[True]
    ) -> tuple[Tensor, Pair, list[Tensor]]: ...

    @overload
    def forward(self, input: PackedSequence, hx: Pair | None = None) -> tuple[PackedSequence, Pair]: ...

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: Pair | None = None,
        lengths: Lengths = None,
        resets: Resets = None,
        return_cells: bool = False,
    ) -> Any:
        """As ``torch.nn.LSTM``: ``output, (h_n, c_n)``.

        ``lengths: [B]`` gives the steps of each sequence, zero allowed, without a PackedSequence; the output past them is zero.
        ``resets: [T, B]`` (``[B, T]`` if ``batch_first``) of bool says where the state is set to zero before a step. With
        ``return_cells`` a third result is ``c`` of every step: of each layer a tensor ``[T, B, D*H]``, without gradient.
        """
        return self._run(_lstm_forward, input, hx, lengths, resets, return_cells)

    if TYPE_CHECKING:

        @_typed_as(forward)
        def __call__(self) -> None: ...


class GRU(RNNBase):
    """``torch.nn.GRU``, computed by tidegate."""

    if TYPE_CHECKING:

        def __init__(
            self,
            input_size: int,
            hidden_size: int,
            num_layers: int = 1,
            bias: bool = True,
            batch_first: bool = False,
            dropout: float = 0.0,
            bidirectional: bool = False,
            device: Device = None,
            dtype: torch.dtype | None = None,
        ) -> None: ...

    else:

        def __init__(self, *args, **kwargs):
            if "proj_size" in kwargs:
                raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")
            super().__init__("GRU", *args, **kwargs)

    @overload
    def forward(
        self, input: Tensor, hx: Tensor | None = None, lengths: Lengths = None, resets: Resets = None
    ) -> tuple[Tensor, Tensor]: ...

    @overload
    def forward(self, input: PackedSequence, hx: Tensor | None = None) -> tuple[PackedSequence, Tensor]: ...

    def forward(
        self, input: Tensor | PackedSequence, hx: Tensor | None = None, lengths: Lengths = None, resets: Resets = None
    ) -> Any:
        """As ``torch.nn.GRU``: ``output, h_n``; ``lengths`` and ``resets`` as in :class:`LSTM`."""
        return self._run(_gru_forward, input, hx, lengths, resets)

    if TYPE_CHECKING:

        @_typed_as(forward)
        def __call__(self) -> None: ...


class RNN(RNNBase):
    """``torch.nn.RNN``, computed by tidegate."""

    if TYPE_CHECKING:

        def __init__(
            self,
            input_size: int,
            hidden_size: int,
            num_layers: int = 1,
            nonlinearity: str = "tanh",
            bias: bool = True,
            batch_first: bool = False,
            dropout: float = 0.0,
            bidirectional: bool = False,
            device: Device = None,
            dtype: torch.dtype | None = None,
        ) -> None: ...

    else:

        def __init__(self, *args, **kwargs):
            if "proj_size" in kwargs:
                raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")
            if len(args) > 3:
                self.nonlinearity = args[3]
                args = args[:3] + args[4:]
            else:
                self.nonlinearity = kwargs.pop("nonlinearity", "tanh")
            if self.nonlinearity not in ("tanh", "relu"):
                raise ValueError(f"Unknown nonlinearity '{self.nonlinearity}'. Select from 'tanh' or 'relu'.")
            super().__init__(_RNN_MODES.get(str(self.nonlinearity), ""), *args, **kwargs)

    @overload
    def forward(
        self, input: Tensor, hx: Tensor | None = None, lengths: Lengths = None, resets: Resets = None
    ) -> tuple[Tensor, Tensor]: ...

    @overload
    def forward(self, input: PackedSequence, hx: Tensor | None = None) -> tuple[PackedSequence, Tensor]: ...

    def forward(
        self, input: Tensor | PackedSequence, hx: Tensor | None = None, lengths: Lengths = None, resets: Resets = None
    ) -> Any:
        """As ``torch.nn.RNN``: ``output, h_n``; ``lengths`` and ``resets`` as in :class:`LSTM`."""
        return self._run(_rnn_forward, input, hx, lengths, resets)

    if TYPE_CHECKING:

        @_typed_as(forward)
        def __call__(self) -> None: ...


class LSTMCell(Prepack, nn.LSTMCell):
    """``torch.nn.LSTMCell``, computed by tidegate."""

    def forward(self, input: Tensor, hx: Pair | None = None) -> Pair:
        """As ``torch.nn.LSTMCell``."""
        found = _vf.direct_cell("LSTM", self, input, hx)
        return _lstm_cell_forward(self, input, hx) if found is None else found

    if TYPE_CHECKING:

        def __call__(self, input: Tensor, hx: Pair | None = None) -> Pair: ...


class GRUCell(Prepack, nn.GRUCell):
    """``torch.nn.GRUCell``, computed by tidegate."""

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """As ``torch.nn.GRUCell``."""
        found = _vf.direct_cell("GRU", self, input, hx)
        return _gru_cell_forward(self, input, hx) if found is None else found

    if TYPE_CHECKING:

        def __call__(self, input: Tensor, hx: Tensor | None = None) -> Tensor: ...


_RNN_MODES = {"tanh": "RNN_TANH", "relu": "RNN_RELU"}


class RNNCell(Prepack, nn.RNNCell):
    """``torch.nn.RNNCell``, computed by tidegate."""

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """As ``torch.nn.RNNCell``."""
        found = _vf.direct_cell(_RNN_MODES.get(str(self.nonlinearity), ""), self, input, hx)
        return _rnn_cell_forward(self, input, hx) if found is None else found

    if TYPE_CHECKING:

        def __call__(self, input: Tensor, hx: Tensor | None = None) -> Tensor: ...


_OURS: dict[type[nn.Module], type[nn.Module]] = {
    nn.LSTM: LSTM,
    nn.GRU: GRU,
    nn.RNN: RNN,
    nn.LSTMCell: LSTMCell,
    nn.GRUCell: GRUCell,
    nn.RNNCell: RNNCell,
}
_STOCK = {ours: theirs for theirs, ours in _OURS.items()}


def _swap(model: M, classes: Mapping[type[nn.Module], type[nn.Module]]) -> M:
    for module in model.modules():
        module.__class__ = classes.get(type(module), type(module))
    return model


def convert(model: M) -> M:
    """Makes every stock recurrent layer and cell of ``model`` ours, in place; returns ``model``.

    The modules stay the same objects, with their parameters, hooks and names.
    """
    return _swap(model, _OURS)


def restore(model: M) -> M:
    """Undoes :func:`convert`."""
    return _swap(model, _STOCK)
