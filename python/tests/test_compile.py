"""torch.compile, torch.export and the checks of torch.library."""

import pytest
import torch

import tidegate
from common import close, pair, states
from test_module_samples import flat

LAYERS = ["LSTM", "GRU", "RNN"]
KINDS = LAYERS + ["LSTMCell", "GRUCell", "RNNCell"]


@pytest.mark.parametrize("kind", KINDS)
def test_compiled_without_a_break(kind):
    torch._dynamo.reset()
    stock, ours = pair(kind, 3, 4)
    compiled = torch.compile(ours, fullgraph=True, backend="aot_eager")
    given = torch.randn(*((5, 2, 3) if kind in LAYERS else (2, 3)))
    results = []
    for layer in (stock, compiled):
        x = given.clone().requires_grad_()
        out = flat(layer(x))
        sum(part.square().sum() for part in out).backward()
        results.append([*out, x.grad])
    results[0] += [p.grad for p in stock.parameters()]
    results[1] += [p.grad for p in ours.parameters()]
    for k, (want, got) in enumerate(zip(*results, strict=True)):
        close(got, want, f"{kind} {k}")
    with torch.no_grad():
        for got, want in zip(flat(compiled(given)), flat(stock(given))):
            close(got, want, kind)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("bias", [False, True])
def test_compiled_with_states(kind, bias):
    torch._dynamo.reset()
    options = dict(proj_size=2) if kind == "LSTM" else {}
    stock, ours = pair(kind, 3, 4, num_layers=2, bias=bias, dtype=torch.float64, **options)
    compiled, results = torch.compile(ours, fullgraph=True, backend="aot_eager"), []
    torch.manual_seed(0)
    given = [torch.randn(5, 2, 3).double(), *(part.detach() for part in states(stock, (2,), torch.float64))]
    for layer in (stock, compiled):
        x, *state = [tensor.clone().requires_grad_() for tensor in given]
        out = flat(layer(x, tuple(state) if kind == "LSTM" else state[0]))
        sum(k * part.square().sum() for k, part in enumerate(out, 1)).backward()
        results.append([*out, x.grad, *(part.grad for part in state)])
    results[0] += [p.grad for p in stock.parameters()]
    results[1] += [p.grad for p in ours.parameters()]
    for k, (want, got) in enumerate(zip(*results, strict=True)):
        close(got, want, f"{kind} {k}")


def test_compiled_in_a_model_with_dropout_and_lengths():
    torch._dynamo.reset()

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = tidegate.nn.LSTM(3, 4, num_layers=2, dropout=0.5, bidirectional=True, batch_first=True)
            self.head = torch.nn.Linear(8, 2)

        def forward(self, x, lengths):
            return self.head(torch.relu(self.rnn(x, lengths=lengths)[0]))

    model, lengths = Model(), torch.tensor([5, 2])
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    x = torch.randn(2, 5, 3)
    assert compiled(x, lengths).shape == (2, 5, 2)
    model.eval()
    close(compiled(x, lengths), model(x, lengths), "compiled")


@pytest.mark.parametrize("kind", LAYERS)
def test_exported_with_dynamic_time_and_batch(kind):
    _, ours = pair(kind, 3, 4, bidirectional=True, batch_first=True)
    time, batch = torch.export.Dim("time", min=2, max=100), torch.export.Dim("batch", min=2, max=64)
    program = torch.export.export(ours.eval(), (torch.randn(3, 5, 3),), dynamic_shapes=({0: batch, 1: time},))
    for shape in [(3, 5, 3), (2, 17, 3), (7, 2, 3)]:
        x = torch.randn(shape)
        for got, want in zip(flat(program.module()(x)), flat(ours(x)), strict=True):
            assert torch.equal(got, want)


def arguments(mode, extra, requires_grad):
    torch.manual_seed(0)
    layer = {"LSTM": tidegate.nn.LSTM, "GRU": tidegate.nn.GRU}[mode](3, 4, num_layers=2, bidirectional=True)
    made = lambda *shape: torch.randn(*shape, requires_grad=requires_grad)  # noqa: E731
    weights = [p.detach().requires_grad_(requires_grad) for p in layer.parameters()]
    c = made(4, 2, 4) if mode == "LSTM" else None
    return made(5, 2, 3), made(4, 2, 4), c, weights, mode, True, True, None, *extra


@pytest.mark.parametrize("mode", ["LSTM", "GRU"])
@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("ragged", [False, True])
def test_opcheck(mode, requires_grad, ragged):
    extra = (torch.tensor([5, 2]), torch.rand(5, 2) < 0.3) if ragged else (None, None)
    import tidegate._ops  # noqa: F401, defines them

    torch.library.opcheck(torch.ops.tidegate.rnn.default, arguments(mode, extra, requires_grad))


def test_a_second_way_back_through_the_operator_says_that_there_is_none():
    import tidegate._ops  # noqa: F401

    x, *rest = arguments("GRU", (None, None), True)
    output = torch.ops.tidegate.rnn(x, *rest)[0]
    (d_x,) = torch.autograd.grad(output.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="autograd|not registered|does not require grad"):
        d_x.sum().backward()


def test_fake_tensors():
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode() as mode:
        layer = tidegate.nn.LSTM(3, 4)
        output, (h_n, c_n) = layer(torch.empty(5, 2, 3))
        assert (output.shape, h_n.shape, c_n.shape) == ((5, 2, 4), (1, 2, 4), (1, 2, 4))
    assert output.fake_mode is mode
