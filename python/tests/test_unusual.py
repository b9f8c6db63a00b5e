"""Modules and tensors that are not as they usually are, which the quick way of a call must leave to others or get right."""

import os
import signal
import subprocess
import sys
import threading

import pytest
import torch
from torch.nn import Parameter

import tidegate
from common import close, pair
from test_module_samples import flat, outcome

LAYERS = ["LSTM", "GRU", "RNN"]
CELLS = ["LSTMCell", "GRUCell", "RNNCell"]


def alike(stock, ours, *arguments, **options):
    """Both give the same, or refuse alike."""
    want, got = (outcome(lambda: layer(*arguments, **options)) for layer in (stock, ours))
    assert want[0] == got[0], (want, got)
    if want[0] is None:
        for g, w in zip(flat(ours(*arguments, **options)), flat(stock(*arguments, **options)), strict=True):
            close(g, w, type(ours).__name__)


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("grad", [False, True])
def test_cells_whose_biases_are_not_as_their_attribute_says(kind, grad):
    x = torch.randn(2, 3)
    with torch.set_grad_enabled(grad):
        for changes in (dict(bias=False), dict(bias_ih=None), dict(bias_ih=None, bias_hh=None), dict(bias_hh=None, bias=False)):
            layers = pair(kind, 3, 4)
            for layer in layers:
                layer.requires_grad_(False)
                for name, value in changes.items():
                    setattr(layer, name, value)
            alike(*layers, x)
        layers = pair(kind, 3, 4, bias=False)
        for layer in layers:
            layer.bias = True
        alike(*layers, x)


def test_attributes_that_a_class_has():
    class Mine(tidegate.nn.GRU):
        batch_first = property(lambda self: True, lambda self, value: None)

    stock, ours = torch.nn.GRU(3, 4, batch_first=True), Mine(3, 4)
    ours.load_state_dict(stock.state_dict())
    alike(stock, ours, torch.randn(2, 5, 3))


def test_unknown_nonlinearities():
    stock, ours = pair("RNNCell", 3, 4)
    for name in ("TANH", "Relu", "foo", None, ["tanh"]):
        stock.nonlinearity = ours.nonlinearity = name
        alike(stock, ours, torch.randn(2, 3))


@pytest.mark.parametrize("lengths", [[True, False], torch.tensor([True, False]), torch.tensor([2.0, 3.0]), b"\x03\x02", "ab", [2.0, 3.0]])
def test_lengths_that_are_not_whole_numbers(lengths):
    with pytest.raises(TypeError):
        tidegate.nn.GRU(3, 4)(torch.randn(5, 2, 3), lengths=lengths)


@pytest.mark.parametrize("kind", CELLS)
def test_double_backward_of_a_cell_without_rows(kind):
    for layer in pair(kind, 3, 4):
        x = torch.randn(0, 3, requires_grad=True)
        (d_x,) = torch.autograd.grad(flat(layer(x))[0].square().sum(), x, create_graph=True)
        d_x.sum().backward()
        assert x.grad.shape == (0, 3)


@pytest.mark.parametrize("kind", LAYERS + CELLS)
def test_gradients_that_arrive_batched_or_as_zeros(kind):
    stock, ours = pair(kind, 3, 4)
    given, d, results = torch.randn(5, 3), torch.randn(6, 5, 4), []
    for layer in (stock, ours):
        x = given.clone().requires_grad_()
        y = flat(layer(x))[0]
        (batched,) = torch.autograd.grad(y, x, d, is_grads_batched=True, retain_graph=True)
        (zeros,) = torch.autograd.grad(y, x, torch._efficientzerotensor(y.shape))
        assert not batched.requires_grad
        results.append([batched, zeros])
    for want, got in zip(*results, strict=True):
        close(got, want, kind)


@pytest.mark.parametrize("kind", LAYERS)
def test_saved_weights_that_come_back_as_another_type(kind):
    layer, x = getattr(tidegate.nn, kind)(64, 64), torch.randn(5, 2, 64)
    gradients = []
    for unpack in (lambda t: t, lambda t: t.double()):
        layer.zero_grad()
        with torch.autograd.graph.saved_tensors_hooks(unpack, lambda t: t):
            output = layer(x)[0]
        output.square().sum().backward()
        gradients.append([p.grad for p in layer.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


class Negated(torch.autograd.Function):
    """The same, with a gradient whose memory holds the numbers with the other sign."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, d):
        return torch._neg_view(-d)


@pytest.mark.parametrize("kind", LAYERS + CELLS)
def test_tensors_whose_sign_is_still_to_be_changed(kind):
    stock, ours = pair(kind, 3, 4)
    x, results = torch.randn(5, 3), []
    for layer in (stock, ours):
        given = x.clone().requires_grad_()
        minus = torch._neg_view(-given)
        assert minus.is_neg()
        sum(Negated.apply(part).square().sum() for part in flat(layer(minus))).backward()
        with torch.no_grad():
            results.append([*flat(layer(minus)), given.grad, *(p.grad for p in layer.parameters())])
    for want, got in zip(*results, strict=True):
        close(got, want, kind)


def test_new_tensors_are_laid_out_as_pytorch_does():
    stock, ours = pair("LSTM", 3, 4)
    x, h = torch.randn(1, 3, 1).transpose(1, 2), torch.randn(4, 1, 1).transpose(0, 2)
    assert h.stride() != torch.empty(1, 1, 4).stride()
    with torch.no_grad():
        for got, want in zip(flat(ours(x, (h, h))), flat(stock(x, (h, h))), strict=True):
            close(got, want, "laid out")
            assert got.stride() == torch.empty(got.shape).stride()
            got.resize_(2, 2, 2)  # which not every tensor of others lets be done to it


OLDER_PYTORCH = """
import torch
torch.Tensor.__dlpack_c_exchange_api__ = None
import tidegate
torch.manual_seed(0)
for kind in ("LSTM", "GRU", "RNN"):
    for suffix, x in (("", torch.randn(5, 2, 3)), ("Cell", torch.randn(2, 3))):
        stock = getattr(torch.nn, kind + suffix)(3, 4)
        ours = tidegate.convert(getattr(torch.nn, kind + suffix)(3, 4))
        ours.load_state_dict(stock.state_dict())
        found = []
        for layer in (stock, ours):
            result = layer(x)
            first = result[0] if type(result) is tuple else result
            first.square().sum().backward()
            with torch.no_grad():
                again = layer(x)
            found.append([first, again[0] if type(again) is tuple else again, *(p.grad for p in layer.parameters())])
        for want, got in zip(*found, strict=True):
            torch.testing.assert_close(got, want, rtol=0, atol=2e-6 * max(1.0, want.abs().max().item()))
"""


def test_without_the_quick_description_of_tensors():
    done = subprocess.run([sys.executable, "-B", "-c", OLDER_PYTORCH], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_weights_whose_sign_is_still_to_be_changed():
    layer, x = tidegate.nn.LSTM(16, 16), torch.randn(5, 2, 16)
    want = layer(x, return_cells=True)
    for name, parameter in list(layer.named_parameters()):
        setattr(layer, name, Parameter(torch._neg_view(-parameter.detach()), requires_grad=False))
    with torch.device("cpu"):  # a mode of functions: not the quick way
        got = layer(x, return_cells=True)
    assert torch.equal(got[2][0], want[2][0]) and torch.equal(got[0], want[0])
    close(layer(x)[0], want[0], "by PyTorch")


@torch.no_grad()
def test_prepacked_weights_are_not_replaced_by_those_of_others():
    prepacked, alias, x = tidegate.nn.GRU(3, 4).prepack(), tidegate.nn.GRU(3, 4), torch.randn(5, 2, 3)
    for name, parameter in prepacked.named_parameters():
        getattr(alias, name).data = parameter.data
    alias(x), prepacked(x)
    want = prepacked(x)[0].clone()
    del alias
    tidegate.nn.GRU(3, 4)(x)
    assert torch.equal(prepacked(x)[0], want)


@torch.no_grad()
def test_prepacked_weights_of_another_type_or_shape():
    stock, ours = pair("GRU", 3, 4)
    x, _ = torch.randn(5, 2, 3), ours.prepack()
    alike(stock, ours, x)
    for layer in (stock, ours):
        layer.double()
    alike(stock, ours, x)
    alike(stock, ours, x.double())
    for layer in (stock, ours):
        layer.float()
        layer.weight_hh_l0.data = layer.weight_hh_l0.data.reshape(4, 12)
    alike(stock, ours, x)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_fork_in_the_middle_of_calls_of_the_same_module():
    layer, x = tidegate.nn.GRU(64, 256), torch.randn(2, 1, 64)
    stop = threading.Event()

    def calls():
        with torch.no_grad():
            while not stop.is_set():
                layer(x)

    other = threading.Thread(target=calls)
    with torch.no_grad():
        want = layer(x)[0]
        other.start()
        try:
            for _ in range(20):
                child = os.fork()
                if child == 0:
                    signal.alarm(20)  # a child that hangs is ended
                    os._exit(0 if torch.equal(layer(x)[0], want) else 1)
                assert os.waitpid(child, 0)[1] == 0
        finally:
            stop.set()
            other.join()


@pytest.mark.parametrize("kind", LAYERS + CELLS)
def test_a_gradient_by_one_tensor_alone(kind):
    stock, ours = (layer.requires_grad_(False) for layer in pair(kind, 3, 4))
    given = [torch.randn(2, 3), torch.randn(2, 4), torch.randn(2, 4)]
    given = given if kind in CELLS else [tensor.unsqueeze(0) for tensor in given]
    for which in range(3 if kind.startswith("LSTM") else 2):
        gradients = []
        for layer in (stock, ours):
            x, h, c = tensors = [tensor.clone().requires_grad_(k == which) for k, tensor in enumerate(given)]
            results = flat(layer(x, (h, c) if kind.startswith("LSTM") else h))
            sum(result.square().sum() for result in results).backward()
            gradients.append(tensors[which].grad)
        close(gradients[1], gradients[0], f"{kind} {which}")


@torch.no_grad()
def test_prepacked_weights_in_the_place_of_others():
    layer, x = tidegate.nn.GRU(3, 4).prepack(), torch.randn(5, 2, 3)
    before = layer(x)[0]
    alias = layer.weight_hh_l0.data.zero_()
    while alias._version < layer.weight_hh_l0._version:
        alias.add_(0.0)
    new = Parameter(alias)
    assert new.data_ptr() == layer.weight_hh_l0.data_ptr() and new._version == layer.weight_hh_l0._version
    layer.weight_hh_l0 = new
    after = layer(x)[0]
    assert not torch.equal(after, before) and torch.equal(after, layer.prepack(False)(x)[0])
