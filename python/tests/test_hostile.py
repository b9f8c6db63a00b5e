"""Whatever the shapes, sizes and states: an answer or an exception, never a crash (which would end the test run)."""

import random

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import PackedSequence

import tidegate
from tidegate import _core

SIZES = [0, 1, 2, 3, 5]


def tensor(rng, dims=None):
    """A tensor of any shape, type and layout."""
    shape = [rng.choice(SIZES) for _ in range(rng.randrange(0, 5) if dims is None else dims)]
    dtype = rng.choice([torch.float32] * 6 + [torch.float64, torch.int64, torch.bool, torch.complex64, torch.bfloat16])
    made = torch.ones(shape, dtype=dtype)
    change = rng.randrange(8)
    if change == 0 and shape:
        return made[..., :1].expand(shape) if shape[-1] else made
    if change == 1 and len(shape) > 1:
        return made.transpose(0, -1)
    if change == 2:
        return made.to("meta")
    if change == 3 and shape:
        return torch.sparse_coo_tensor(size=shape)
    return made


def outcome(action):
    """Whether the action gave an answer; any exception of Python's is as good."""
    try:
        action()
    except (ArithmeticError, AssertionError, AttributeError, IndexError, NotImplementedError, RuntimeError, TypeError, ValueError):
        return False
    return True


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell"])
def test_any_tensors(kind):
    answers = 0
    for seed in range(600):
        rng = random.Random(seed)
        options = {} if kind.endswith("Cell") else dict(num_layers=rng.choice([1, 2]), batch_first=rng.random() < 0.5, bidirectional=rng.random() < 0.5)
        layer = getattr(tidegate.nn, kind)(3, 2, **options)
        x = torch.ones(5, 2, 3) if rng.random() < 0.5 else tensor(rng)
        if kind.endswith("Cell") and rng.random() < 0.5:
            x = torch.ones(2, 3)
        state = rng.choice([None] * 6 + [tensor(rng), (tensor(rng), tensor(rng)), (tensor(rng),), [tensor(rng, 3), tensor(rng, 3)], 3, "h"])
        extra = {}
        if not kind.endswith("Cell") and rng.random() < 0.5:
            extra["lengths"] = rng.choice([[5, 2], [5, 2], [9, 1], [-1, 2], [2**62, 2**62], tensor(rng, 1), tensor(rng), "ab", [1.5, 2.5], None])
        if not kind.endswith("Cell") and rng.random() < 0.3:
            extra["resets"] = rng.choice([torch.ones(5, 2, dtype=torch.bool), torch.full((5, 2), 7, dtype=torch.uint8).view(torch.bool), tensor(rng)])
        if rng.random() < 0.2:  # weights of other shapes, types and places
            name, _ = rng.choice(list(layer.named_parameters()))
            outcome(lambda: setattr(getattr(layer, name), "data", tensor(rng, rng.choice([1, 2]))))
        if rng.random() < 0.1:
            layer.hidden_size, layer.num_layers = rng.choice([0, 1, 7, -1, 2**40]), rng.choice([0, 1, 3, -1])

        def run():
            results = layer(x, state, **extra)
            output = results[0] if isinstance(results, tuple) else results
            output.sum().backward()

        answers += outcome(run)
    assert answers > 30


def test_weights_of_other_sizes_are_an_error():
    """PyTorch's own LSTM takes their sizes on trust in oneDNN and writes past their end."""
    layer = tidegate.nn.LSTM(3, 2)
    layer.weight_ih_l0.data = torch.ones(1)
    with pytest.raises(RuntimeError):
        layer(torch.ones(5, 2, 3))[0].sum().backward()


def test_any_packed_sequences():
    answers = 0
    for seed in range(600):
        rng = random.Random(seed)
        sizes = torch.tensor([rng.choice([-1, 0, 1, 2, 3, 2**40]) if rng.random() < 0.3 else 2 for _ in range(rng.randrange(0, 4))])
        rows = max(0, int(sizes.sum())) if rng.random() < 0.7 else rng.choice(SIZES)
        data = torch.ones(min(rows, 20), 3)
        order = rng.choice([None, torch.tensor([1, 0]), torch.tensor([0, 0]), torch.tensor([5, -3])])
        layer = getattr(tidegate.nn, rng.choice(["LSTM", "GRU"]))(3, 2, bidirectional=rng.random() < 0.5)
        answers += outcome(lambda: layer(PackedSequence(data, sizes.long(), order))[0].data.sum().backward())
    assert answers > 30


def test_any_arrays_without_pytorch(tmp_path):
    torch.save(torch.nn.LSTM(3, 2, num_layers=2).state_dict(), tmp_path / "model.pt")
    layer = tidegate.load(tmp_path / "model.pt")
    answers = 0
    for seed in range(600):
        rng = random.Random(seed)

        def array():
            made = np.ones([rng.choice(SIZES) for _ in range(rng.randrange(0, 5))], rng.choice(["f4", "f8", "i1", "?", "c8", "O", ">f4", "f2"]))
            return rng.choice([made, made.T, made[..., ::-1] if made.ndim else made, made.tolist()])

        x = array() if rng.random() < 0.6 else np.ones((4, 2, 3))
        state = rng.choice([None, array(), (array(), array()), (np.ones((2, 2, 2)), np.ones((2, 2, 2)))])
        answers += outcome(lambda: layer.forward(x, state, rng.choice([None, [4, 2], [9, 9], [2**62, 1], 5])))
        stream = layer.stream(rng.choice([0, 1, 2]))
        answers += outcome(lambda: stream.step(x))
        answers += outcome(lambda: stream.push(x))
        answers += outcome(lambda: setattr(stream, "state", state))
    assert answers > 200
    for batch in (-1, 2**62, "a"):
        assert not outcome(lambda: layer.stream(batch)) or batch == 2**62


def test_configurations_of_the_extension():
    weights = [torch.ones(8, 3), torch.ones(8, 2), torch.ones(8), torch.ones(8)]
    good, x, h = ("LSTM", 3, 2, 1, True, False, 0, False), torch.ones(4, 1, 3), torch.ones(1, 1, 2)
    call = lambda config, *arguments: _core.forward(config, *arguments, None, None, None, False)
    results, saved = call(good, weights, x, h, h)
    assert results[0].shape == (4, 1, 2) and saved is None
    sizes = [(0, "FOO"), (1, 0), (2, 0), (3, 0), (6, 5), (1, 2**62), (2, 2**62), (3, 2**62), (3, 2**40), (1, -1), (2, 1.5), (4, False), (5, True)]
    for k, bad in sizes:
        with pytest.raises((ValueError, OverflowError, TypeError)):
            call((*good[:k], bad, *good[k + 1 :]), weights, x, h, h)
    for bad in (x[0, 0, 0], x[0, 0, :2], x[0], x[..., :2], x[None], x.to("meta"), None, 3, x.to_sparse()):
        with pytest.raises((ValueError, TypeError, AttributeError, NotImplementedError)):
            call(good, weights, bad, h, h)
    for bad in (weights[:3], [], [*weights, weights[0]], [w.t() for w in weights], [w[:-1] for w in weights], [w.to("meta") for w in weights]):
        with pytest.raises((ValueError, TypeError, NotImplementedError)):
            call(good, bad, x, h, h)
