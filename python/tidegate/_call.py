"""One call of our kernels on PyTorch's tensors, forward and backward.

``Config`` says which layers; ``run`` computes them, in eager mode by a direct call and under ``torch.compile`` and its kin by
an operator (``_ops.py``) that those can trace.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from typing import NamedTuple, Optional

import torch
from torch import Tensor, _VF

from . import _core

STOCK = {"LSTM": _VF.lstm, "GRU": _VF.gru, "RNN_TANH": _VF.rnn_tanh, "RNN_RELU": _VF.rnn_relu}


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
CONTIGUOUS = torch.contiguous_format

class Packed:
    """Our layer for some weights, and those weights with PyTorch's counts of their changes when they were last compared."""

    def __init__(self, config: Config, layer):
        self.config, self.layer = config, layer
        self.weights: "list[weakref.ref]" = []
        self.versions: "list[int]" = []

    def is_of(self, config: Config, weights) -> bool:
        """Whether the layer has the values of these very tensors, as far as PyTorch counts changes."""
        if self.config != config or len(self.versions) != len(weights):
            return False
        for known, version, weight in zip(self.weights, self.versions, weights):
            if known() is not weight or version != weight._version:
                return False
        return True

    def remember(self, weights) -> None:
        if not any(weight.is_inference() for weight in weights):  # of those PyTorch does not count
            self.weights = [weakref.ref(weight) for weight in weights]
            self.versions = [weight._version for weight in weights]

    def __reduce__(self):
        return bool, (True,)  # in a copy of a prepacked module: still to be packed


# Layers by their configuration and the addresses of their weights, until the first weight is gone. A few small ones of such
# weights then wait for others: functions of parameters are new tensors in every call.
_layers: "OrderedDict[tuple, tuple[Packed, weakref.finalize]]" = OrderedDict()
_spare: "OrderedDict[Config, _core.Layer]" = OrderedDict()
MOST_LAYERS, MOST_SPARE, MOST_SPARE_NUMBERS = 1024, 8, 1 << 20


def _forget(key: tuple, numbers: int) -> None:
    found = _layers.pop(key, None)
    if found is not None and numbers <= MOST_SPARE_NUMBERS:
        _spare[key[0]] = found[0].layer
        if len(_spare) > MOST_SPARE:
            _spare.popitem(last=False)


def packed_of(config: Config, weights):
    """Our layer for these weights, which compares its copy of them in every call, their addresses, and what is there."""
    addresses = [weight.data_ptr() for weight in weights]
    key = (config, *addresses)
    found = _layers.get(key)
    if found is None:
        packed = Packed(config, _spare.pop(config, None) or _core.Layer(*config))
        numbers = sum(weight.numel() for weight in weights)
        end = weakref.finalize(weights[0], _forget, key, numbers)
        end.atexit = False
        _layers[key] = found = packed, end
        if len(_layers) > MOST_LAYERS:
            _layers.popitem(last=False)[1][1].detach()
    if all(map(Tensor.is_contiguous, weights)):
        return found[0], addresses, weights
    contiguous = [weight.contiguous() for weight in weights]
    return found[0], [weight.data_ptr() for weight in contiguous], contiguous


def _described(tensor: Tensor):
    return tensor.data_ptr(), tensor.shape, tensor.stride()


def _block(tensor: "Tensor | None"):
    return None if tensor is None else (tensor.data_ptr(), tensor.numel())


def _list(numbers):
    return numbers.tolist() if isinstance(numbers, Tensor) else numbers


def forward(
    config: Config,
    extra: Extra,
    x: Tensor,
    h: "Tensor | None",
    c: "Tensor | None",
    weights,
    train: bool,
    packed: "Packed | None" = None,
):
    """Output, ``h_n``, ``c_n`` or None, and what ``backward`` needs if ``train``; from zeros if ``h`` is None and ``x`` 3-D.

    With ``packed``, the weights are not looked at.
    """
    addresses = []
    if packed is None:
        packed, addresses, _alive = packed_of(config, weights)
    (*rows, _), size = x.shape, config.proj_size or config.hidden_size
    output = x.new_empty(*rows, 2 * size if config.bidirectional else size)
    if h is None:
        state, scans = None, config.num_layers * config.directions
        h_n = x.new_empty(scans, rows[1], size)
        c_n = x.new_empty(scans, rows[1], config.hidden_size) if config.mode == "LSTM" else None
    else:
        state = _described(h), None if c is None else _described(c)
        h_n = torch.empty_like(h, memory_format=CONTIGUOUS)
        c_n = None if c is None else torch.empty_like(c, memory_format=CONTIGUOUS)
    lengths = batch_sizes = resets = None
    if extra is not NOTHING:
        lengths, batch_sizes = _list(extra.lengths), _list(extra.batch_sizes)
        resets = None if extra.resets is None else extra.resets.contiguous()
    saved = packed.layer.forward(
        addresses,
        _described(x),
        state,
        (_block(output), _block(h_n), _block(c_n)),
        lengths,
        batch_sizes,
        _block(resets),
        torch.get_num_threads(),
        train,
    )
    return output, h_n, c_n, saved


def backward(config: Config, saved, x: Tensor, h: Tensor, c: "Tensor | None", weights, upstream, wanted):
    """The gradients of ``[x, h, c, *weights]`` that are ``wanted``, else None."""
    packed, addresses, _alive = packed_of(config, weights)
    gradients = [
        torch.empty_like(tensor, memory_format=CONTIGUOUS) if want and tensor is not None else None
        for tensor, want in zip((x, h, c, *weights), wanted)
    ]
    blocks = [_block(gradient) for gradient in gradients]
    packed.layer.backward(
        addresses,
        saved,
        _described(x),
        [None if d is None else _described(d) for d in upstream],
        blocks[:3],
        blocks[3:] if any(blocks[3:]) else [],
        torch.get_num_threads(),
    )
    return gradients


def stock(config: Config, extra: Extra, x: Tensor, h: Tensor, c: "Tensor | None", weights):
    """The same call by PyTorch's own function; of ``x: [T, B, I]`` from zeros if ``h`` is None."""
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
    def forward(ctx, config: Config, extra: Extra, x: Tensor, h: "Tensor | None", c: "Tensor | None", *weights: Tensor):
        output, h_n, c_n, ctx.kept = forward(config, extra, x, h, c, weights, True)
        ctx.save_for_backward(x, h, c, *weights)
        ctx.config, ctx.extra = config, extra
        ctx.set_materialize_grads(False)
        return (output, h_n) if c_n is None else (output, h_n, c_n)

    @staticmethod
    def backward(ctx, d_output, d_h, d_c=None):
        x, h, c, *weights = ctx.saved_tensors
        wanted, upstream = ctx.needs_input_grad[2:], (d_output, d_h, d_c)
        if torch.is_grad_enabled():
            return None, None, *_differentiable(ctx.config, ctx.extra, (x, h, c, *weights), upstream, wanted)
        if all(d is None for d in upstream):
            return (None,) * (5 + len(weights))
        upstream = [d if d is None or d.device.type == "cpu" and d.dtype == x.dtype else d.to(x) for d in upstream]
        gradients = backward(ctx.config, ctx.kept, x, h, c, weights, upstream, wanted)
        if not _keeps_graph():
            ctx.kept.release()
        return None, None, *gradients


def _differentiable(config, extra, tensors, upstream, wanted):
    """The gradients as functions of the tensors, for a second way back: by PyTorch's own call."""
    if extra.lengths is not None or extra.resets is not None:
        raise RuntimeError("tidegate: double backward is not supported with lengths or resets")
    # Aliases: a weight may be a function of the input, and each stands for itself here.
    x, h, c, *weights = tensors = [None if t is None else t.view_as(t) for t in tensors]
    results = [(result, d) for result, d in zip(stock(config, extra, x, h, c, weights), upstream) if d is not None]
    asked = [t for t, want in zip(tensors, wanted) if want and t is not None]
    gradients = iter(
        torch.autograd.grad([r for r, _ in results], asked, [d for _, d in results], create_graph=True, allow_unused=True)
    )
    return [next(gradients) if want and t is not None else None for t, want in zip(tensors, wanted)]


def run(config: Config, extra: Extra, x: Tensor, h: "Tensor | None", c: "Tensor | None", weights, traced: bool):
    """Output, ``h_n``, and ``c_n`` of an LSTM; ``x: [T, B, I]``, or ``[rows, I]`` with ``batch_sizes``. As ``forward``."""
    if traced:
        from . import _ops

        return _ops.run(config, extra, x, h, c, weights)
    tensors = (x, h, c, *weights)
    if torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors):
        return Function.apply(config, extra, x, h, c, *weights)
    output, h_n, c_n, _ = forward(config, extra, x, h, c, weights, False)
    return (output, h_n) if c_n is None else (output, h_n, c_n)
