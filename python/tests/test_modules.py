"""What nn.Module code does with layers besides calling them."""

import copy
import pickle

import pytest
import torch
from torch.nn.utils import parametrizations, prune
from torch.nn.utils.rnn import pack_padded_sequence

import tidegate
from common import close, pair
from test_module_samples import flat, outcome

KINDS = ["LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell"]
LAYERS = KINDS[:3]


def both(kind, action, *arguments, **options):
    """What `action` gives for PyTorch's layer and for ours, made from one seed."""
    results = []
    for module in (torch.nn, tidegate.nn):
        torch.manual_seed(7)
        results.append(action(getattr(module, kind)(*arguments, **options)))
    return results


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_weights(kind):
    want, got = both(kind, lambda layer: layer.state_dict(), 3, 4)
    assert list(got) == list(want) and all(torch.equal(got[name], want[name]) for name in want)
    assert got._metadata == want._metadata


@pytest.mark.parametrize(
    "kind, arguments, options",
    [
        ("LSTM", (3, 4), dict(dropout=0.5)),
        ("LSTM", (3, 4), dict(dropout="x")),
        ("LSTM", (3, 4), dict(dropout=1.5)),
        ("LSTM", (3, 4), dict(bias=1)),
        ("LSTM", (3, 4), dict(batch_first=1)),
        ("LSTM", (3.0, 4), {}),
        ("LSTM", (3, 4.0), {}),
        ("LSTM", (0, 4), {}),
        ("LSTM", (3, -1), {}),
        ("LSTM", (3, 4, 0), {}),
        ("LSTM", (3, 4, 2.0), {}),
        ("LSTM", (3, 4), dict(proj_size=-1)),
        ("LSTM", (3, 4), dict(proj_size=4)),
        ("GRU", (3, 4), dict(proj_size=2)),
        ("RNN", (3, 4), dict(proj_size=2)),
        ("RNN", (3, 4), dict(nonlinearity="sigmoid")),
        ("RNN", (3, 4, 1, "foo"), {}),
        ("GRU", (3,), {}),
        ("LSTMCell", (3.0, 4), {}),
        ("RNNCell", (3, 4), dict(nonlinearity="foo")),
    ],
)
def test_constructors_refuse_and_warn_alike(kind, arguments, options):
    want, got = (
        outcome(lambda module=module: getattr(module, kind)(*arguments, **options)) for module in (torch.nn, tidegate.nn)
    )
    assert got == want


INPUTS = [
    torch.zeros(2, 3, 4, 5),
    torch.zeros(5),
    torch.zeros(2, 3, 7),
    torch.zeros(0, 3, 5),
    torch.zeros(2, 0, 5),
    torch.zeros(2, 3, 5, dtype=torch.float64),
    torch.zeros(2, 3, 5, dtype=torch.int64),
    torch.zeros(2, 3, 5, device="meta"),
    torch.zeros(2, 5),
    torch.zeros(2, 3, 5),
]


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("x", INPUTS, ids=lambda x: f"{tuple(x.shape)}-{x.dtype}-{x.device}")
def test_calls_refuse_alike(kind, x):
    stock, ours = pair(kind, 5, 4, num_layers=2)
    h = [torch.zeros(2, 3, 4), torch.zeros(2, 4), torch.zeros(2, 2, 4), torch.zeros(1, 3, 4), torch.zeros(2, 3, 4).double()]
    states = [None, *h] if kind != "LSTM" else [None, *[(a, b) for a in h for b in h], (h[0],), (h[0], h[0], h[0]), [h[0], h[0]]]
    for state in states:
        assert outcome(lambda: ours(x, state)) == outcome(lambda: stock(x, state)), state


@pytest.mark.parametrize("kind", KINDS)
def test_copies_and_pickles(kind):
    stock, ours = pair(kind, 3, 4)
    x = torch.randn(2, 3)
    want = flat(ours(x))
    for copied in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert type(copied) is type(ours) and repr(copied) == repr(stock)
        assert all(torch.equal(a, b) for a, b in zip(flat(copied(x)), want))
    with torch.no_grad():
        ours.weight_ih_l0.zero_() if kind in LAYERS else ours.weight_ih.zero_()
    assert not torch.equal(flat(ours(x))[0], want[0])
    assert torch.equal(flat(copied(x))[0], want[0])


@pytest.mark.parametrize("inputs, hidden, steps", [(3, 4, 5), (96, 640, 1), (96, 640, 2)])  # compared; read as they are
@pytest.mark.parametrize("kind", KINDS)
def test_every_way_to_change_weights_is_seen(kind, inputs, hidden, steps):
    stock, ours = pair(kind, inputs, hidden)
    x = torch.randn(steps, 2, inputs)
    x, of = (x[0], "") if kind.endswith("Cell") else (x, "_l0")

    def check(what):
        for recording in (True, False):
            with torch.set_grad_enabled(recording):
                for g, w in zip(flat(ours(x)), flat(stock(x))):
                    close(g, w, what)

    def hidden_weight(layer):
        return getattr(layer, f"weight_hh{of}")

    check("at first")
    for layer in (stock, ours):
        hidden_weight(layer).data.mul_(0.5)  # no new version
    check("changed through .data")
    for layer in (stock, ours):
        hidden_weight(layer).data = torch.full_like(hidden_weight(layer), 1 / hidden)
    check("other memory")
    for layer in (stock, ours):
        setattr(layer, f"bias_ih{of}", torch.nn.Parameter(torch.ones_like(getattr(layer, f"bias_ih{of}"))))
    check("another parameter")
    for layer in (stock, ours):
        getattr(layer, f"weight_ih{of}").numpy(force=True)[0] = 9.0 / inputs
    check("changed by numpy")
    columns = torch.randn(hidden, len(hidden_weight(ours))) / hidden
    for layer in (stock, ours):
        hidden_weight(layer).data = columns.clone().t()
    check("not contiguous")
    for layer in (stock, ours):
        layer.double()
    x = x.double()
    check("double")


@pytest.mark.parametrize("steps", [1, 2, 3])  # of which the layers here read one or two with weights as they are
@pytest.mark.parametrize("options", [{}, dict(num_layers=2), dict(bidirectional=True), dict(batch_first=True, bias=False)])
@pytest.mark.parametrize("kind", LAYERS)
@torch.no_grad()
def test_weights_as_they_are_give_the_same_bits(kind, options, steps):
    layer = getattr(tidegate.nn, kind)(96, 640 if kind == "RNN" else 320, **options)
    x = torch.randn(3, steps, 96) if "batch_first" in options else torch.randn(steps, 3, 96)
    calls = [dict(), dict(lengths=[steps, 0, steps]), dict(resets=torch.rand(x.shape[:2]) < 0.5)]
    want = [flat(layer(x, **call)) for call in calls]
    layer.prepack()
    for call, results in zip(calls, want):
        assert all(torch.equal(g, w) for g, w in zip(flat(layer(x, **call)), results)), call


@pytest.mark.parametrize("kind", KINDS)
def test_prepacked_weights_may_change_as_pytorch_counts(kind):
    stock, ours = pair(kind, 3, 4)
    x = torch.randn(5, 2, 3)
    x, of = (x[0], "") if kind.endswith("Cell") else (x, "_l0")
    assert ours.prepack() is ours

    @torch.no_grad()
    def check(what):
        for _ in range(2):
            for g, w in zip(flat(ours(x)), flat(stock(x))):
                close(g, w, what)

    check("at first")
    with torch.no_grad():
        for layer in (stock, ours):
            getattr(layer, f"weight_hh{of}").mul_(0.5)
    check("in place")
    for layer in (stock, ours):
        setattr(layer, f"bias_hh{of}", torch.nn.Parameter(torch.ones(getattr(layer, f"bias_hh{of}").shape)))
    check("another parameter")
    state = {name: torch.randn_like(p) for name, p in stock.state_dict().items()}
    for layer in (stock, ours):
        layer.load_state_dict(state)
    check("loaded")
    for layer in (stock, ours):
        layer(x)[0].sum().backward()
        torch.optim.SGD(layer.parameters(), 0.1).step()
    check("trained")
    for layer in (stock, ours):
        getattr(layer, f"weight_ih{of}").data.zero_()
        layer.prepack(False) if layer is ours else None
    check("compared again")
    ours.prepack()
    check("prepacked again")
    with torch.no_grad():
        before = flat(ours(x))[0]
        getattr(ours, f"weight_ih{of}").data.fill_(2.0)  # not counted: this is what one gives up
        assert torch.equal(flat(ours(x))[0], before)
        assert not flat(ours.prepack(False)(x))[0].allclose(before)


@torch.inference_mode()
def test_prepacked_weights_whose_changes_pytorch_does_not_count():
    stock, ours = pair("GRU", 3, 4)  # inference tensors, as they are made here
    ours.prepack()
    x = torch.randn(5, 2, 3)
    for _ in range(3):
        close(ours(x)[0], stock(x)[0], "changed")
        for layer in (stock, ours):
            layer.weight_hh_l0.add_(0.1)


@pytest.mark.parametrize("kind", LAYERS)
def test_functions_of_weights(kind):
    def tied(layer):
        layer.weight_hh_l1 = layer.weight_hh_l0
        return layer

    makers = {
        "weight_norm": lambda layer: parametrizations.weight_norm(layer, "weight_hh_l0"),
        "spectral_norm": lambda layer: parametrizations.spectral_norm(layer, "weight_hh_l0"),
        "prune": lambda layer: prune.l1_unstructured(layer, "weight_ih_l0", 0.5),
        "tied": tied,
        "frozen": lambda layer: layer.requires_grad_(False),
        "half frozen": lambda layer: (layer.weight_ih_l0.requires_grad_(False), layer)[1],
    }
    for name, make in makers.items():
        torch.manual_seed(1)
        stock, ours = pair(kind, 3, 4, num_layers=2)
        results = []
        for layer in (stock, ours):
            torch.manual_seed(2)
            layer = make(layer)
            x = torch.ones(5, 2, 3, requires_grad=True)
            out = flat(layer(x))
            sum(part.square().sum() for part in out).backward()
            results.append([*out, x.grad, *(p.grad for p in layer.parameters())])
        for k, (want, got) in enumerate(zip(*results, strict=True)):
            close(got, want, f"{kind}, {name}, {k}")


@pytest.mark.parametrize("kind", LAYERS)
def test_functional_call_and_func_grad(kind):
    stock, ours = pair(kind, 3, 4)
    x = torch.randn(5, 2, 3)
    weights = {name: torch.randn_like(p) for name, p in stock.named_parameters()}
    want = flat(torch.func.functional_call(stock, weights, (x,)))
    for g, w in zip(flat(torch.func.functional_call(ours, weights, (x,))), want):
        close(g, w, kind)

    def loss(layer):
        return torch.func.grad(lambda w: torch.func.functional_call(layer, w, (x,))[0].square().sum())(weights)

    want = loss(stock)
    for name, got in loss(ours).items():
        close(got, want[name], name)


@pytest.mark.parametrize("kind", LAYERS)
def test_transforms_do_what_they_do_to_stock_layers(kind):
    stock, ours = pair(kind, 3, 4)
    x = torch.randn(2, 5, 2, 3)
    assert outcome(lambda: torch.vmap(ours)(x))[0] == outcome(lambda: torch.vmap(stock)(x))[0]
    tangent = lambda layer: torch.func.jvp(lambda x: layer(x)[0], (x[0],), (x[1],))  # noqa: E731
    want, got = outcome(lambda: tangent(stock)), outcome(lambda: tangent(ours))
    assert want[0] == got[0]
    if want[0] is None:
        for g, w in zip(tangent(ours), tangent(stock)):
            close(g, w, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_double_backward(kind):
    stock, ours = pair(kind, 3, 4, dtype=torch.float64)
    given, results = torch.randn(5, 3, dtype=torch.float64), []
    for layer in (stock, ours):
        x = given.clone().requires_grad_()
        loss = flat(layer(x))[0].square().sum()
        (d_x,) = torch.autograd.grad(loss, x, create_graph=True)
        d_x.square().sum().backward()
        results.append([d_x, x.grad, *(p.grad for p in layer.parameters())])
    for want, got in zip(*results, strict=True):
        close(got, want, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_double_backward_by_the_state(kind):
    stock, ours = pair(kind, 3, 4, dtype=torch.float64)
    is_cell, pairs, results = kind.endswith("Cell"), kind.startswith("LSTM"), []
    x, parts = torch.randn(5, 2, 3, dtype=torch.float64), torch.randn(2, 1, 2, 4, dtype=torch.float64)
    x, parts = (x[0], parts[:, 0]) if is_cell else (x, parts)
    for layer in (stock, ours):
        state = [part.clone().requires_grad_() for part in parts]
        loss = sum(part.square().sum() for part in flat(layer(x, tuple(state) if pairs else state[0])))
        (d_h,) = torch.autograd.grad(loss, state[0], create_graph=True)
        d_h.square().sum().backward()
        results.append([d_h, state[0].grad, *(p.grad for p in layer.parameters())])
    for want, got in zip(*results, strict=True):
        close(got, want, kind)


def test_the_graph_may_be_gone_through_twice_if_it_is_kept():
    stock, ours = pair("GRU", 3, 4)
    for layer in (stock, ours):
        loss = layer(torch.ones(5, 2, 3))[0].sum()
        loss.backward(retain_graph=True)
        loss.backward()
        with pytest.raises(RuntimeError, match="a second time"):
            loss.backward()
    for p, q in zip(stock.parameters(), ours.parameters()):
        close(q.grad, p.grad, "twice")


def test_changed_weights_are_refused_on_the_way_back():
    _, ours = pair("LSTM", 3, 4)
    loss = ours(torch.ones(5, 2, 3))[0].sum()
    with torch.no_grad():
        ours.weight_hh_l0.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_what_we_do_not_cover_is_pytorchs(kind, dtype):
    stock, ours = pair(kind, 3, 4)
    x = torch.randn(5, 2, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert all(torch.equal(g, w) and g.dtype == w.dtype for g, w in zip(flat(ours(x)), flat(stock(x))))
    stock, ours = stock.to(dtype), ours.to(dtype)
    x = x.to(dtype)
    assert outcome(lambda: ours(x)) == outcome(lambda: stock(x))
    assert all(torch.equal(g, w) for g, w in zip(flat(ours(x)), flat(stock(x))))
    scripted = torch.jit.trace(ours, x)
    assert torch.equal(scripted(x)[0], stock(x)[0])


def test_dropout_draws_pytorchs_masks():
    for kind in LAYERS:
        stock, ours = pair(kind, 3, 16, num_layers=3, dropout=0.5, batch_first=True)
        x = torch.randn(2, 9, 3)
        packed = pack_padded_sequence(x, [9, 4], batch_first=True)
        for given in (x, packed):
            torch.manual_seed(5)
            want = flat(stock(given))
            torch.manual_seed(5)
            for g, w in zip(flat(ours(given)), want):
                close(g, w, kind) if w.dtype.is_floating_point else None
        assert torch.equal(ours.eval()(x)[0], ours(x)[0])


def test_no_gradient_is_kept_when_none_is_wanted():
    _, ours = pair("LSTM", 3, 4)
    with torch.inference_mode():
        assert ours(torch.ones(2, 1, 3))[0].is_inference()
    with torch.no_grad():
        assert not ours(torch.ones(2, 1, 3))[0].requires_grad
    assert ours(torch.ones(2, 1, 3))[0].requires_grad


def test_memory_of_weights_that_are_gone_is_given_back():
    from tidegate import _core

    before, _ = _core.layers_kept()
    for _ in range(50):
        layer = tidegate.nn.GRU(3, 4)
        layer(torch.ones(2, 1, 3))
        del layer
    known, spare = _core.layers_kept()
    assert known <= before + 1 and spare <= 8
    layer = tidegate.nn.GRU(3, 4)
    layer.weight_hh_l0.data = torch.randn(4, 12).t()  # a contiguous copy in every call
    for _ in range(50):
        layer(torch.ones(2, 1, 3))
    assert _core.layers_kept()[0] <= before + 2


def test_convert_and_restore():
    model = torch.nn.Sequential(torch.nn.LSTM(3, 4, batch_first=True), torch.nn.Linear(4, 2))
    model.cell = torch.nn.GRUCell(2, 2)
    lstm, weights = model[0], list(model.parameters())
    x = torch.randn(2, 5, 3)
    want = model[0](x)[0]
    assert tidegate.convert(model) is model
    assert model[0] is lstm and type(lstm) is tidegate.nn.LSTM and type(model.cell) is tidegate.nn.GRUCell
    assert all(a is b for a, b in zip(model.parameters(), weights, strict=True))
    close(model[0](x)[0], want, "converted")
    assert tidegate.restore(model) is model and type(lstm) is torch.nn.LSTM and type(model.cell) is torch.nn.GRUCell
    assert torch.equal(model[0](x)[0], want)
    alone = tidegate.convert(torch.nn.GRU(3, 4))
    assert type(alone) is tidegate.nn.GRU

    class Custom(torch.nn.LSTM):
        def forward(self, x):
            return 1

    assert type(tidegate.convert(Custom(2, 2))) is Custom  # not PyTorch's own: left alone
