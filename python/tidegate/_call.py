"""One call of our kernels on PyTorch's tensors, forward and backward.

``Config`` says which layers; ``run`` computes them, in eager mode by a direct call and under ``torch.compile`` and its kin by
an operator (``_ops.py``) that those can trace.
"""

from __future__ import annotations

from typing import Any, Callable, NamedTuple, Optional, Sequence

import torch
from torch import Tensor, _VF

from . import _core

STOCK: "dict[str, Callable[..., Any]]" = {"LSTM": _VF.lstm, "GRU": _VF.gru, "RNN_TANH": _VF.rnn_tanh, "RNN_RELU": _VF.rnn_relu}


class Config(NamedTuple):
    """A stack of layers, and the type of its numbers."""

    mode: str
    input_size: int
    hidden_size: int
    num_layers: int
    bias: bool
    bidirectional: bool
    proj_size: int
    double: bool

    @property
    def directions(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def output_size(self) -> int:
        return self.proj_size or self.hidden_size


class Extra(NamedTuple):
    """What a call takes beside input, state and weights."""

    batch_sizes: Optional[Tensor] = None
    lengths: "list[int] | Tensor | None" = None
    resets: Optional[Tensor] = None


NOTHING = Extra()

# The output, ``h_n`` and ``c_n``.
Results = tuple[Optional[Tensor], Tensor, Optional[Tensor]]


def _list(numbers: "list[int] | Tensor | None") -> "list[int] | None":
    return numbers.tolist() if isinstance(numbers, Tensor) else numbers


def forward(
    config: Config,
    extra: Extra,
    x: Tensor,
    h: "Tensor | None",
    c: "Tensor | None",
    weights: Sequence[Tensor],
    train: bool,
) -> "tuple[Results, Any]":  # a Saved, or None
    """The results, and what the way back needs if ``train``; from zeros if ``h`` is None.

    The results are the output, ``h_n`` and ``c_n``; None stands for the output of a cell, whose ``x`` is ``[B, I]`` or ``[I]``, and
    for ``c_n`` where there is none.
    """
    lengths = batch_sizes = resets = mask = None
    if extra is not NOTHING:
        lengths, batch_sizes = _list(extra.lengths), _list(extra.batch_sizes)
        if extra.resets is not None:
            mask = extra.resets.contiguous()
            resets = mask.data_ptr(), mask.numel()
    return _core.forward(config, weights, x, h, c, batch_sizes, lengths, resets, train)


def stock(config: Config, extra: Extra, x: Any, h: Any, c: Any, weights: Any) -> "tuple[Any, ...]":
    """The results of the same call by PyTorch's own function."""
    if x.dim() < 3 and extra.batch_sizes is None:  # a cell
        one_x, one_h, one_c = [None if t is None else t.reshape(1, -1, t.shape[-1]) for t in (x, h, c)]
        results = stock(config, extra, one_x, one_h, one_c, weights)
        return None, *(part.reshape(*x.shape[:-1], part.shape[-1]) for part in results[1:])
    if h is None:
        scans = config.num_layers * config.directions
        h = x.new_zeros(scans, x.shape[1], config.output_size)
        c = x.new_zeros(scans, x.shape[1], config.hidden_size) if config.mode == "LSTM" else None
    hx = h if c is None else (h, c)
    options = (config.bias, config.num_layers, 0.0, False, config.bidirectional)
    if extra.batch_sizes is not None:
        return STOCK[config.mode](x, extra.batch_sizes, hx, weights, *options)
    return STOCK[config.mode](x, hx, weights, *options, False)


# Whether the graph that is being gone back through is kept for another time.
_keeps_graph = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", lambda: True)


class Function(torch.autograd.Function):
    """The call as a node of the graph."""

    @staticmethod
    def forward(
        ctx: Any,
        config: Config,
        extra: Extra,
        x: Tensor,
        h: "Tensor | None",
        c: "Tensor | None",
        *weights: Tensor,
    ) -> "tuple[Tensor, ...]":
        results, ctx.kept = forward(config, extra, x, h, c, weights, True)
        ctx.save_for_backward(x, h, c, *weights)
        ctx.config, ctx.extra, ctx.is_cell = config, extra, results[0] is None
        ctx.set_materialize_grads(False)
        return tuple([result for result in results if result is not None])

    @staticmethod
    def backward(ctx: Any, *upstream: "Tensor | None") -> "tuple[Tensor | None, ...]":
        upstream = (None, *upstream, None)[:3] if ctx.is_cell else (*upstream, None)[:3]
        x, h, c, *weights = ctx.saved_tensors
        wanted = ctx.needs_input_grad[2:]
        if torch.is_grad_enabled():
            return None, None, *_by_pytorch(ctx.config, ctx.extra, (x, h, c, *weights), upstream, wanted, create_graph=True)
        if all(d is None for d in upstream):
            return (None,) * (5 + len(weights))
        gradients = _core.backward(ctx.config, ctx.kept, weights, x, h, c, upstream, wanted)
        if gradients is None:  # batched by vmap, for one
            with torch.enable_grad():
                gradients = _by_pytorch(ctx.config, ctx.extra, (x, h, c, *weights), upstream, wanted, create_graph=False)
        if not _keeps_graph():
            ctx.kept.release()
        return None, None, *gradients


def _by_pytorch(
    config: Config,
    extra: Extra,
    tensors: Sequence[Any],
    upstream: "Sequence[Tensor | None]",
    wanted: Sequence[bool],
    create_graph: bool,
) -> "list[Tensor | None]":
    """The gradients by PyTorch's own call; with ``create_graph`` as functions of the tensors, for a second way back."""
    if extra.lengths is not None or extra.resets is not None:
        what = "double backward is" if create_graph else "gradients of this kind are"
        raise RuntimeError(f"tidegate: {what} not supported with lengths or resets")
    # Aliases: a weight may be a function of the input, and each stands for itself here.
    x, h, c, *weights = tensors = [None if t is None else t.view_as(t) for t in tensors]
    results = [(result, d) for result, d in zip(stock(config, extra, x, h, c, weights), upstream) if d is not None]
    asked = [t for t, want in zip(tensors, wanted) if want and t is not None]
    gradients = iter(
        torch.autograd.grad([r for r, _ in results], asked, [d for _, d in results], create_graph=create_graph, allow_unused=True)
    )
    return [next(gradients) if want and t is not None else None for t, want in zip(tensors, wanted)]


def run(
    config: Config,
    extra: Extra,
    x: Tensor,
    h: Tensor,
    c: "Tensor | None",
    weights: Sequence[Tensor],
    traced: bool,
) -> "tuple[Tensor, ...]":
    """Output, ``h_n``, and ``c_n`` of an LSTM; ``x: [T, B, I]``, or ``[rows, I]`` with ``batch_sizes``. As ``forward``."""
    if traced:
        from . import _ops

        return _ops.run(config, extra, x, h, c, weights)
    tensors = (x, h, c, *weights)
    if torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors):
        return Function.apply(config, extra, x, h, c, *weights)
    results, _ = forward(config, extra, x, h, c, weights, False)
    return tuple(result for result in results if result is not None)
