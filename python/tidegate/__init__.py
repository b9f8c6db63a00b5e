"""LSTM, GRU and RNN exact to PyTorch and fast on CPUs.

With PyTorch: ``tidegate.nn.LSTM, GRU, RNN, LSTMCell, GRUCell, RNNCell`` are drop-ins for those of ``torch.nn``, and
``tidegate.convert(model)`` replaces the layers of a model in place. Without it: ``tidegate.load(path)`` runs a trained layer
from a ``.pt``, ``.safetensors`` or ``.npz`` file on numpy arrays.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from ._file import Layer, Stream, inspect, load

if TYPE_CHECKING:
    from . import nn
    from .nn import convert, restore

__all__ = ["Layer", "Stream", "convert", "inspect", "load", "nn", "restore"]

if not TYPE_CHECKING:  # to a type checker it would say that the module has every name

    def __getattr__(name: str):
        # PyTorch is imported when it is asked for.
        if name == "nn":
            return importlib.import_module(".nn", __name__)
        if name in ("convert", "restore"):
            return getattr(importlib.import_module(".nn", __name__), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
