"""Random layers and calls, and how results are compared."""

import random

import torch

import tidegate

TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-10}


def close(got, want, what, dtype=None):
    """Every element of ``got`` is within the tolerance, relative to the largest of ``want`` or 1 if that is smaller (so entries
    that are all tiny are not held to it relative to themselves).

    Where PyTorch has no gradient, because a result does not depend on a tensor in its graph, ours may be zeros.
    """
    if want is None:
        assert got is None or not got.any(), what
        return
    assert got is not None, what
    assert got.shape == want.shape and got.dtype == want.dtype, what
    if want.numel():
        scale = max(1.0, want.detach().abs().max().item())
        error = (got.detach() - want.detach()).abs().max().item()
        assert error <= TOLERANCE[dtype or want.dtype] * scale, f"{what}: differs by {error:.1e} of {scale:.1e}"


def pair(kind, *arguments, **options):
    """PyTorch's layer and ours with the same parameters."""
    stock = getattr(torch.nn, kind)(*arguments, **options)
    ours = getattr(tidegate.nn, kind)(*arguments, **options)
    ours.load_state_dict(stock.state_dict())
    return stock, ours


def configuration(seed):
    """A random constructor's arguments."""
    rng = random.Random(seed)
    kind = rng.choice(["LSTM", "GRU", "RNN"])
    hidden = rng.choice([1, 2, 3, 5, 8, 16, 17, 33])
    options = dict(
        num_layers=rng.choice([1, 1, 2, 3]),
        bias=rng.random() < 0.8,
        batch_first=rng.random() < 0.5,
        dropout=rng.choice([0.0, 0.0, 0.3]),
        bidirectional=rng.random() < 0.5,
        dtype=rng.choice([torch.float32, torch.float64]),
    )
    if kind == "LSTM" and hidden > 1 and rng.random() < 0.3:
        options["proj_size"] = rng.randrange(1, hidden)
    if kind == "RNN":
        options["nonlinearity"] = rng.choice(["tanh", "relu"])
    if options["num_layers"] == 1:
        options["dropout"] = 0.0
    return kind, (rng.choice([1, 2, 3, 7, 8, 20]), hidden), options


def states(layer, batch, dtype):
    """A random initial state with gradient."""
    scans = layer.num_layers * (2 if layer.bidirectional else 1)
    sizes = [layer.proj_size or layer.hidden_size] + [layer.hidden_size] * (layer.mode == "LSTM")
    return [torch.randn(scans, *batch, size, dtype=dtype, requires_grad=True) for size in sizes]
