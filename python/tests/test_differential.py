"""Random layers and inputs beside PyTorch's own: outputs, states and all gradients."""

import random

import pytest
import torch
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from common import close, configuration, pair, states


def results_of(layer, x, lengths, state, seed, sort):
    hx = None if not state else tuple(state) if layer.mode == "LSTM" else state[0]
    if lengths is not None:
        x = pack_padded_sequence(x, lengths, layer.batch_first, enforce_sorted=sort)
    torch.manual_seed(seed)
    output, hidden = layer(x, hx)
    hidden = hidden if layer.mode == "LSTM" else (hidden,)
    return [output.data if isinstance(output, PackedSequence) else output, *hidden]


def results_alone(layer, x, lengths, state, seed, sort):
    """Results where nothing wants a gradient: another way through our code."""
    with torch.no_grad():
        return results_of(layer, x, lengths, [part.detach() for part in state], seed, sort)


def call(layer, x, lengths, state, seed, sort):
    """Results and gradients of one call."""
    x = x.detach().clone().requires_grad_()
    state = [part.detach().clone().requires_grad_() for part in state]
    results = results_of(layer, x, lengths, state, seed, sort)
    generator = torch.Generator().manual_seed(seed)
    chosen = [k for k in range(3) if torch.rand((), generator=generator) < 0.7] or [0]
    loss = sum((results[k] * torch.randn(results[k].shape, generator=generator, dtype=x.dtype)).sum() for k in chosen if k < len(results))
    gradients = None
    if isinstance(loss, torch.Tensor):
        layer.zero_grad(set_to_none=True)
        loss.backward()
        gradients = [x.grad, *(part.grad for part in state), *(parameter.grad for parameter in layer.parameters())]
    return results, gradients


@pytest.mark.parametrize("part", range(10))
def test_random_calls(part):
    for seed in range(100 * part, 100 * part + 100):
        rng = random.Random(-seed - 1)
        torch.manual_seed(seed)
        kind, sizes, options = configuration(seed)
        stock, ours = pair(kind, *sizes, **options)
        dtype, steps, batch = options["dtype"], rng.randrange(1, 9), rng.choice([0, 1, 2, 3, 4])
        unbatched = rng.random() < 0.2
        batch_shape = () if unbatched else (batch,)
        shape = (steps, sizes[0]) if unbatched else (batch, steps, sizes[0]) if stock.batch_first else (steps, batch, sizes[0])
        x = torch.randn(shape, dtype=dtype)
        if rng.random() < 0.2:  # not contiguous
            x = torch.randn(*shape[:-1], 2 * sizes[0], dtype=dtype)[..., ::2]
        state = states(stock, batch_shape, dtype) if rng.random() < 0.5 else []
        lengths = None
        if not unbatched and batch and rng.random() < 0.3:
            lengths = sorted((rng.randrange(1, steps + 1) for _ in range(batch)), reverse=True)
        sort = rng.random() < 0.5
        if lengths and not sort:
            rng.shuffle(lengths)
        for layer in (stock, ours):
            layer.train(rng.random() < 2)
        want = call(stock, x, lengths, state, seed, sort)
        got = call(ours, x, lengths, state, seed, sort)
        what = f"seed {seed}: {stock}, x {tuple(shape)}, lengths {lengths}"
        for k, (g, w) in enumerate(zip(results_alone(ours, x, lengths, state, seed, sort), got[0], strict=True)):
            assert torch.equal(g, w) and g.stride() == w.stride(), f"{what}: result {k} without a gradient"
        for k, (g, w) in enumerate(zip(got[0], want[0], strict=True)):
            assert g.stride() == w.stride() or g.numel() <= 1 or batch == 0, f"{what}: strides {g.stride()}, {w.stride()}"
            close(g, w, f"{what}: result {k}")
        assert (got[1] is None) == (want[1] is None), what
        for k, (g, w) in enumerate(zip(got[1] or [], want[1] or [], strict=True)):
            close(g, w, f"{what}: gradient {k}")


@pytest.mark.parametrize("kind", ["LSTMCell", "GRUCell", "RNNCell"])
def test_random_cells(kind):
    for seed in range(100):
        rng = random.Random(seed)
        torch.manual_seed(seed)
        dtype = rng.choice([torch.float32, torch.float64])
        options = dict(bias=rng.random() < 0.7, dtype=dtype)
        if kind == "RNNCell":
            options["nonlinearity"] = rng.choice(["tanh", "relu"])
        inputs, hidden = rng.choice([1, 3, 8, 20]), rng.choice([1, 2, 5, 17])
        stock, ours = pair(kind, inputs, hidden, **options)
        batch = rng.choice([(), (1,), (4,), (0,)])
        count = 2 if kind == "LSTMCell" else 1
        results = []
        given = [torch.randn(*batch, inputs, dtype=dtype)] + [torch.randn(*batch, hidden, dtype=dtype) for _ in range(count)]
        for layer in (stock, ours):
            x, *state = [tensor.clone().requires_grad_() for tensor in given]
            hx = tuple(state) if count == 2 else state[0]
            out = layer(x, None if seed % 4 == 0 else hx)
            out = out if count == 2 else (out,)
            with torch.no_grad():
                alone = layer(given[0], None if seed % 4 == 0 else tuple(given[1:]) if count == 2 else given[1])
            for g, w in zip(alone if count == 2 else (alone,), out, strict=True):
                assert layer is stock or torch.equal(g, w) and g.stride() == w.stride(), f"seed {seed}: without a gradient"
            sum((tensor.square() * k).sum() for k, tensor in enumerate(out, 1)).backward()
            results.append([*out, x.grad, *(s.grad for s in state), *(p.grad for p in layer.parameters())])
        for k, (want, got) in enumerate(zip(*results, strict=True)):
            close(got, want, f"seed {seed}: {stock}, {k}")
