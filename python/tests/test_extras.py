"""The arguments PyTorch does not have: lengths, resets, return_cells."""

import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import tidegate
from common import close, pair
from test_module_samples import flat

LAYERS = ["LSTM", "GRU", "RNN"]


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("batch_first", [False, True])
def test_lengths_are_a_packed_sequence_without_the_packing(kind, batch_first):
    stock, ours = pair(kind, 3, 5, num_layers=2, bidirectional=True, batch_first=batch_first)
    x = torch.randn(4, 7, 3) if batch_first else torch.randn(7, 4, 3)
    lengths = [2, 7, 1, 5]
    results = []
    for packs in (True, False):
        given = x.clone().requires_grad_()
        layer = stock if packs else ours
        if packs:
            output, hidden = layer(pack_padded_sequence(given, lengths, batch_first, enforce_sorted=False))
            output = pad_packed_sequence(output, batch_first)[0]
        else:
            output, hidden = layer(given, lengths=torch.tensor(lengths))
        (output.square().sum() + sum(h.sum() for h in flat(hidden))).backward()
        results.append([output, *flat(hidden), given.grad, *(p.grad for p in layer.parameters())])
    for k, (want, got) in enumerate(zip(*results, strict=True)):
        close(got, want, f"{kind} {k}")


def test_lengths_of_zero_keep_the_state():
    layer = tidegate.nn.LSTM(3, 5)
    h, c = torch.randn(1, 2, 5), torch.randn(1, 2, 5)
    output, (h_n, c_n) = layer(torch.randn(4, 2, 3), (h, c), lengths=[0, 3])
    assert torch.equal(h_n[:, 0], h[:, 0]) and torch.equal(c_n[:, 0], c[:, 0])
    assert not output[:, 0].any() and not output[3, 1].any() and output[2, 1].all()


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("batch_first", [False, True])
def test_resets_cut_a_sequence_in_two(kind, batch_first):
    stock, ours = pair(kind, 3, 5, batch_first=batch_first, dtype=torch.float64)
    x = torch.randn(8, 2, 3, dtype=torch.float64)
    resets = torch.zeros(8, 2, dtype=torch.bool)
    resets[3, 0] = resets[5, 1] = resets[6, 1] = True
    given = x.transpose(0, 1).contiguous() if batch_first else x
    mask = resets.t() if batch_first else resets
    output, _ = ours(given, resets=mask)
    output.square().sum().backward()
    want = []
    for row, cuts in ((0, [0, 3, 8]), (1, [0, 5, 6, 8])):
        parts = [x[a:b, row] for a, b in zip(cuts, cuts[1:])]
        want.append(torch.cat([stock(part)[0] for part in parts]))
    want = torch.stack(want, 0 if batch_first else 1)
    want.square().sum().backward()
    close(output, want, kind)
    for p, q in zip(stock.parameters(), ours.parameters(), strict=True):
        close(q.grad, p.grad, kind)


def test_cells_of_every_step():
    layer = tidegate.nn.LSTM(3, 5, num_layers=2)
    x = torch.randn(6, 2, 3)
    output, (h_n, c_n), cells = layer(x, return_cells=True)
    assert [tuple(c.shape) for c in cells] == [(6, 2, 5)] * 2
    for t in range(6):
        want = layer(x[: t + 1])[1][1]
        assert all(torch.equal(cells[k][t], want[k]) for k in range(2))
    alone = layer(x[:, 0], return_cells=True)
    assert torch.equal(alone[2][1], cells[1][:, 0]) and torch.equal(alone[0], layer(x[:, 0])[0])


def test_errors_say_what_was_expected():
    layer = tidegate.nn.GRU(3, 5)
    x = torch.zeros(4, 2, 3)
    for options, error, text in [
        (dict(lengths=[1]), ValueError, r"lengths of shape \(2,\), got \(1,\)"),
        (dict(lengths=[1, 5]), ValueError, r"from 0 to 4, got \[1, 5\]"),
        (dict(lengths=[1.5, 2.0]), TypeError, "whole numbers, got torch.float32"),
        (dict(lengths=[1, -1]), ValueError, "from 0 to 4"),
        (dict(resets=torch.zeros(2, 4, dtype=torch.bool)), ValueError, r"resets of shape \(4, 2\), got \(2, 4\)"),
        (dict(resets=torch.zeros(4, 2)), TypeError, "torch.bool, got torch.float32"),
    ]:
        with pytest.raises(error, match=text):
            layer(x, **options)
    with pytest.raises(TypeError, match="PackedSequence"):
        layer(pack_padded_sequence(x, [4, 4]), lengths=[4, 4])
    with pytest.raises(RuntimeError, match="sizes and type"):
        layer(x.double(), lengths=[4, 4])
    with pytest.raises(RuntimeError, match="Expected hidden size"):
        layer(x, torch.zeros(1, 3, 5), lengths=[4, 4])
    loss = layer(x.requires_grad_(), lengths=[4, 1])[0].sum()
    (gradient,) = torch.autograd.grad(loss, layer.weight_hh_l0, create_graph=False, retain_graph=True)
    with pytest.raises(RuntimeError, match="double backward is not supported"):
        torch.autograd.grad(loss, layer.weight_hh_l0, create_graph=True)
