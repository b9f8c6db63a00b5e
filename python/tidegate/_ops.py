"""The call as operators of ``torch.library``, which ``torch.compile`` and ``torch.export`` trace without a break.

The way back computes the forward call again: what it keeps in memory is not a tensor.
"""

from __future__ import annotations

from typing import Any, List, Optional, Sequence, Tuple

import torch
from torch import Tensor

from . import _call, _core
from ._call import Config, Extra


def run(
    config: Config, extra: Extra, x: Tensor, h: Tensor, c: "Tensor | None", weights: Sequence[Tensor]
) -> "tuple[Tensor, ...]":
    lengths = extra.lengths if extra.lengths is None else torch.as_tensor(extra.lengths)
    options = (config.mode, config.bias, config.bidirectional)
    results = rnn(x, h, c, list(weights), *options, extra.batch_sizes, lengths, extra.resets)
    return results[:2] if c is None else results


def _config(x: Tensor, h: Tensor, weights: Sequence[Tensor], mode: str, bias: bool, bidirectional: bool) -> Config:
    gates = {"LSTM": 4, "GRU": 3}.get(mode, 1)
    hidden = weights[1].shape[0] // gates
    output = weights[1].shape[1]
    layers = h.shape[0] // (2 if bidirectional else 1)
    proj = len(weights) == h.shape[0] * (5 if bias else 3)
    double = x.dtype == torch.float64
    return Config(mode, x.shape[-1], hidden, layers, bias, bidirectional, output if proj else 0, double)


@torch.library.custom_op("tidegate::rnn", mutates_args=())
def rnn(
    x: Tensor,
    h: Tensor,
    c: Optional[Tensor],
    weights: Sequence[Tensor],
    mode: str,
    bias: bool,
    bidirectional: bool,
    batch_sizes: Optional[Tensor],
    lengths: Optional[Tensor],
    resets: Optional[Tensor],
) -> Tuple[Tensor, Tensor, Tensor]:
    config = _config(x, h, weights, mode, bias, bidirectional)
    (output, h_n, c_n), _ = _call.forward(config, Extra(batch_sizes, lengths, resets), x, h, c, weights, False)
    # Not of a cell, so there is an output.
    return output, h_n, x.new_empty(0) if c_n is None else c_n  # type: ignore[return-value]


@rnn.register_fake
def _(
    x: Tensor,
    h: Tensor,
    c: "Tensor | None",
    weights: Sequence[Tensor],
    mode: str,
    bias: bool,
    bidirectional: bool,
    batch_sizes: "Tensor | None",
    lengths: "Tensor | None",
    resets: "Tensor | None",
) -> "tuple[Tensor, Tensor, Tensor]":
    output = x.new_empty((*x.shape[:-1], (2 if bidirectional else 1) * weights[1].shape[1]))
    return output, x.new_empty(h.shape), x.new_empty(0) if c is None else x.new_empty(c.shape)


@torch.library.custom_op("tidegate::rnn_backward", mutates_args=())
def rnn_backward(
    d_output: Tensor,
    d_h: Tensor,
    d_c: Tensor,
    x: Tensor,
    h: Tensor,
    c: Optional[Tensor],
    weights: Sequence[Tensor],
    mode: str,
    bias: bool,
    bidirectional: bool,
    batch_sizes: Optional[Tensor],
    lengths: Optional[Tensor],
    resets: Optional[Tensor],
) -> List[Tensor]:
    config = _config(x, h, weights, mode, bias, bidirectional)
    _, saved = _call.forward(config, Extra(batch_sizes, lengths, resets), x, h, c, weights, True)
    upstream = (d_output, d_h, None if c is None else d_c)
    gradients = _core.backward(config, saved, weights, x, h, c, upstream, [True] * (3 + len(weights)))
    # An operator's tensors are plain ones, which our kernels read, so there are gradients.
    return [gradient for gradient in gradients if gradient is not None]  # type: ignore[union-attr]


@rnn_backward.register_fake
def _(
    d_output: Tensor,
    d_h: Tensor,
    d_c: Tensor,
    x: Tensor,
    h: Tensor,
    c: "Tensor | None",
    weights: Sequence[Tensor],
    mode: str,
    bias: bool,
    bidirectional: bool,
    batch_sizes: "Tensor | None",
    lengths: "Tensor | None",
    resets: "Tensor | None",
) -> "list[Tensor]":
    return [x.new_empty(tensor.shape) for tensor in (x, h, c, *weights) if tensor is not None]


def _keep(ctx: Any, inputs: "tuple[Any, ...]", output: Any) -> None:
    x, h, c, weights, *ctx.options, batch_sizes, lengths, resets = inputs
    ctx.save_for_backward(x, h, c, batch_sizes, lengths, resets, *weights)


def _backward(ctx: Any, d_output: Tensor, d_h: Tensor, d_c: Any) -> "tuple[Any, ...]":
    x, h, c, batch_sizes, lengths, resets, *weights = ctx.saved_tensors
    gradients = rnn_backward(d_output, d_h, d_c, x, h, c, weights, *ctx.options, batch_sizes, lengths, resets)
    d_x, d_h, *rest = gradients
    d_c, d_weights = (None, rest) if c is None else (rest[0], rest[1:])
    return d_x, d_h, d_c, list(d_weights), None, None, None, None, None, None


rnn.register_autograd(_backward, setup_context=_keep)
