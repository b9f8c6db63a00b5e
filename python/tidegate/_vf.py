"""Stand-ins for the functions of ``torch._VF`` that ``torch.nn``'s layers call, with the same arguments.

What our kernels cover runs there; everything else, also every call that PyTorch would refuse, is handed on to PyTorch's own
function, so that its answer and its errors are PyTorch's. ``direct`` and ``direct_cell`` are the way past all this.
"""

from __future__ import annotations

import functools
from typing import Any, Callable, Sequence

import torch
from torch import Tensor, _VF
from torch.autograd import forward_ad
from torch.nn import Parameter

from . import _call, _core
from ._call import NOTHING, Config, Extra

GATES = {"LSTM": 4, "GRU": 3, "RNN_TANH": 1, "RNN_RELU": 1}
PLAIN = (Tensor, Parameter)
DTYPES = (torch.float32, torch.float64)


def lstm(*arguments: Any) -> Any:
    return _layers("LSTM", arguments)


def gru(*arguments: Any) -> Any:
    return _layers("GRU", arguments)


def rnn_tanh(*arguments: Any) -> Any:
    return _layers("RNN_TANH", arguments)


def rnn_relu(*arguments: Any) -> Any:
    return _layers("RNN_RELU", arguments)


def _layers(mode: str, arguments: "tuple[Any, ...]") -> Any:
    if isinstance(arguments[3], bool):
        x, hx, weights, bias, num_layers, dropout, train, bidirectional, batch_first = arguments
        extra = NOTHING
    else:
        x, batch_sizes, hx, weights, bias, num_layers, dropout, train, bidirectional = arguments
        batch_first, extra = False, Extra(batch_sizes)
    state = hx if mode == "LSTM" else (hx,)
    called = prepare(mode, x, state, weights, bias, num_layers, bidirectional, batch_first, extra)
    if called is None:
        config = configure(mode, x, state, weights, bias, num_layers, bidirectional, batch_first, extra)
        agree = config is not None and (extra.batch_sizes is None or int(extra.batch_sizes.sum()) == x.shape[0])
        return by_pytorch(mode, arguments, agree)
    config, traced = called
    return layers(config, extra, x, state, weights, dropout if train else 0.0, batch_first, traced)


def layers(
    config: Config,
    extra: Extra,
    x: Tensor,
    state: Sequence[Tensor],
    weights: Sequence[Tensor],
    dropout: float,
    batch_first: bool,
    traced: bool,
) -> "tuple[Tensor, ...]":
    """Output, ``h_n``, and ``c_n`` of an LSTM, of what ``prepare`` has accepted."""
    x = x.transpose(0, 1) if batch_first else x
    h, c = state if len(state) == 2 else (state[0], None)
    if dropout == 0.0 or config.num_layers == 1:
        results = _call.run(config, extra, x, h, c, weights, traced)
    else:
        results = _with_dropout(config, extra, x, h, c, weights, dropout, traced)
    return (results[0].transpose(0, 1), *results[1:]) if batch_first else results


def _with_dropout(
    config: Config,
    extra: Extra,
    x: Tensor,
    h: Tensor,
    c: "Tensor | None",
    weights: Sequence[Tensor],
    dropout: float,
    traced: bool,
) -> "tuple[Tensor, ...]":
    """Layer by layer, with PyTorch's dropout between them, which draws the masks that its own layers would."""
    each, directions = len(weights) // config.num_layers, config.directions
    last = []
    for layer in range(config.num_layers):
        one = config._replace(num_layers=1, input_size=x.shape[-1])
        scans = slice(layer * directions, (layer + 1) * directions)
        of_layer = weights[layer * each : (layer + 1) * each]
        x, *states = _call.run(one, extra, x, h[scans], None if c is None else c[scans], of_layer, traced)
        last.append(states)
        if layer + 1 < config.num_layers:
            x = torch.dropout(x, dropout, True)
    return (x, *(torch.cat(states) for states in zip(*last)))


def prepare(
    mode: str,
    x: Tensor,
    state: Sequence[Tensor],
    weights: Sequence[Tensor],
    bias: bool,
    num_layers: int,
    bidirectional: bool,
    batch_first: bool,
    extra: Extra,
) -> "tuple[Config, bool] | None":
    """The configuration, and whether an operator must be traced; None if the call is not for our kernels."""
    traced = route(x)
    if traced is None:
        return None
    config = configure(mode, x, state, weights, bias, num_layers, bidirectional, batch_first, extra)
    return (config, traced) if config is not None and ordinary(x, state, weights, traced) else None


def configure(
    mode: str,
    x: Tensor,
    state: Sequence[Tensor],
    weights: Sequence[Tensor],
    bias: bool,
    num_layers: int,
    bidirectional: bool,
    batch_first: bool,
    extra: Extra,
) -> "Config | None":
    """The configuration that all sizes agree on, if they do."""
    scans = num_layers * (2 if bidirectional else 1)
    each = len(weights) // scans if scans > 0 else 0
    plain = 4 if bias else 2
    if each not in (plain, plain + 1) or len(weights) != scans * each or each > plain and mode != "LSTM":
        return None
    if len(state) != (2 if mode == "LSTM" else 1) or x.dim() != (3 if extra.batch_sizes is None else 2) or x.shape[-1] == 0:
        return None
    if any(weight.dim() != 2 for weight in weights[:2]) or any(part.dim() != 3 for part in state):
        return None
    hidden, output = state[-1].shape[2], weights[1].shape[1]
    if not 0 < output <= hidden or each > plain and output == hidden:
        return None
    proj_size = output if each > plain else 0
    double = x.dtype == torch.float64
    config = Config(mode, x.shape[-1], hidden, num_layers, bias, bool(bidirectional), proj_size, double)
    if extra.batch_sizes is not None:
        batch = int(extra.batch_sizes[0])
    else:
        steps, batch = (x.shape[1], x.shape[0]) if batch_first else x.shape[:2]
        if steps == 0:
            return None
    known = shapes.__wrapped__(config) if torch.compiler.is_compiling() else shapes(config)
    return config if fits(config, state, batch) and all(w.shape == shape for w, shape in zip(weights, known)) else None


def by_pytorch(mode: str, arguments: "tuple[Any, ...]", sizes_agree: bool) -> Any:
    """The call by PyTorch's own function. Of its ways to compute an LSTM, oneDNN's takes sizes on trust: not here if they are wrong."""
    if sizes_agree or mode != "LSTM":
        return _call.STOCK[mode](*arguments)
    enabled = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    try:
        return _call.STOCK[mode](*arguments)
    finally:
        torch._C._set_mkldnn_enabled(enabled)


def route(x: Tensor) -> "bool | None":
    """Whether the call must be an operator that is traced; None if it must be PyTorch's own."""
    if torch.is_autocast_enabled("cpu") or x.dtype not in DTYPES:
        return None
    if torch.compiler.is_compiling():
        return True
    # Traced by TorchScript, in forward mode, or under torch.func: what we are not made for.
    if (
        torch._C._get_tracing_state() is not None
        or forward_ad._current_level >= 0
        or torch._C._functorch.peek_interpreter_stack() is not None
    ):
        return None
    return torch._C._len_torch_dispatch_stack() > 0 or torch._C._len_torch_function_stack() > 0


def fits(config: Config, state: Sequence[Tensor], batch: int) -> bool:
    """Whether the state has the sizes of the configuration."""
    scans = config.num_layers * config.directions
    for part, size in zip(state, (config.output_size, config.hidden_size)):
        if part.shape != (scans, batch, size):
            return False
    return True


def ordinary(x: Tensor, state: Sequence[Tensor], weights: Sequence[Tensor], traced: bool) -> bool:
    """Whether all tensors are ordinary ones of the type of ``x``, on the CPU."""
    dtype = x.dtype
    if traced:
        return all(tensor.dtype == dtype and tensor.device.type == "cpu" for tensor in (x, *state, *weights))
    for tensor in (x, *state, *weights):
        if tensor.dtype is not dtype or type(tensor) not in PLAIN or tensor.is_neg() or not tensor.is_cpu:
            return False
    return x.layout is torch.strided


def direct(module: Any, x: Any, hx: Any, lengths: Any = None) -> Any:
    """A module's call if it is of the most common kind, without what PyTorch's code takes to find that out; else None."""
    return None if torch.compiler.is_compiling() else _core.direct(module, x, hx, lengths)


def direct_cell(mode: str, module: Any, x: Any, hx: Any) -> Any:
    """As ``direct``, of a cell."""
    return None if torch.compiler.is_compiling() else _core.direct_cell(mode, module, x, hx)


@functools.lru_cache(256)
def shapes(config: Config) -> "list[tuple[int, ...]]":
    """Those of the weights, in PyTorch's order."""
    rows = GATES[config.mode] * config.hidden_size
    found: "list[tuple[int, ...]]" = []
    for layer in range(config.num_layers):
        inputs = config.directions * config.output_size if layer else config.input_size
        for _ in range(config.directions):
            found += [(rows, inputs), (rows, config.output_size)]
            found += [(rows,), (rows,)] if config.bias else []
            found += [(config.proj_size, config.hidden_size)] if config.proj_size else []
    return found


def lstm_cell(x: Tensor, hx: Sequence[Tensor], *weights: Any) -> Any:
    return _cell("LSTM", _VF.lstm_cell, x, hx, weights)


def gru_cell(x: Tensor, hx: Tensor, *weights: Any) -> Any:
    return _cell("GRU", _VF.gru_cell, x, hx, weights)


def rnn_tanh_cell(x: Tensor, hx: Tensor, *weights: Any) -> Any:
    return _cell("RNN_TANH", _VF.rnn_tanh_cell, x, hx, weights)


def rnn_relu_cell(x: Tensor, hx: Tensor, *weights: Any) -> Any:
    return _cell("RNN_RELU", _VF.rnn_relu_cell, x, hx, weights)


def _cell(mode: str, stock: Callable[..., Any], x: Tensor, hx: Any, weights: "tuple[Any, ...]") -> Any:
    state = hx if mode == "LSTM" else (hx,)
    bias = weights[2] is not None
    own = weights if bias else weights[:2]
    called = None
    if x.dim() == 2 and all(part.dim() == 2 for part in state) and (weights[3] is not None) == bias:
        one_step = [part.unsqueeze(0) for part in (x, *state)]
        called = prepare(mode, one_step[0], one_step[1:], own, bias, 1, False, False, NOTHING)
    if called is None:
        return stock(x, hx, *weights)
    config, traced = called
    results = layers(config, NOTHING, one_step[0], one_step[1:], own, 0.0, False, traced)
    states = [part.squeeze(0) for part in results[1:]]
    return tuple(states) if mode == "LSTM" else states[0]
