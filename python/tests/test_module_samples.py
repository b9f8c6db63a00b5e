"""PyTorch's own samples for these modules (those its test suite runs), with ours in their place."""

import copy
import statistics
import warnings

import pytest
import torch
from torch.testing._internal.common_modules import module_db

import tidegate
from common import TOLERANCE, close

KINDS = ["LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell"]
INFOS = [info for info in module_db if info.module_cls in [getattr(torch.nn, kind) for kind in KINDS]]


def test_every_class_has_samples():
    assert {info.module_cls.__name__ for info in INFOS} == set(KINDS)


def flat(result):
    if isinstance(result, torch.Tensor):
        return [result]
    if isinstance(result, torch.nn.utils.rnn.PackedSequence):
        return [result.data, result.batch_sizes]
    return [tensor for part in result for tensor in flat(part)]


def double(value):
    if isinstance(value, torch.Tensor):
        return value.detach().double()
    if isinstance(value, torch.nn.utils.rnn.PackedSequence):
        return value.double()
    return type(value)(map(double, value)) if isinstance(value, (tuple, list)) else value


def ratio(got, stock, exact):
    """How many times as large as PyTorch's our error against float64 is; what is within half the tolerance counts as that.

    Some of these samples saturate gates, so that the rounding of n in 1 - n² decides, and a single ratio is a matter of luck.
    """
    least = TOLERANCE[got.dtype] / 2 * max(1.0, exact.abs().max().item())
    stock, own = (max(least, (gradient.double() - exact).abs().max().item()) for gradient in (stock, got))
    return own / stock


@pytest.mark.parametrize("info", INFOS, ids=lambda info: info.name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("training", [True, False])
def test_samples(info, dtype, training):
    ours_class = getattr(tidegate.nn, info.module_cls.__name__)
    torch.manual_seed(0)
    ratios = []
    samples = [
        sample
        for _ in range(5)
        for sample in info.module_inputs_func(info, device="cpu", dtype=dtype, requires_grad=True, training=training)
    ]
    assert samples
    for sample in samples:
        if sample.forward_input is None:
            continue
        made, given = sample.constructor_input, sample.forward_input
        stock = info.module_cls(*made.args, **made.kwargs).to(dtype).train(training)
        ours = ours_class(*made.args, **made.kwargs).to(dtype).train(training)
        ours.load_state_dict(stock.state_dict())
        assert repr(ours) == repr(stock)
        torch.manual_seed(0)
        want = flat(stock(*given.args, **given.kwargs))
        torch.manual_seed(0)
        got = flat(ours(*given.args, **given.kwargs))
        assert len(got) == len(want)
        for g, w in zip(got, want):
            if w.dtype.is_floating_point:
                close(g, w, f"{stock}: {sample.desc}")
        exact = copy.deepcopy(stock).double()
        results = flat(exact(*double(given.args), **given.kwargs))
        for results in (want, got, results):
            sum(r.square().sum() for r in results if r.dtype.is_floating_point).backward()
        for (name, p), q, e in zip(stock.named_parameters(), ours.parameters(), exact.parameters(), strict=True):
            if dtype == torch.float64:
                close(q.grad, p.grad, f"{stock}: gradient of {name}")
            ratios.append(ratio(q.grad, p.grad, e.grad))
    assert statistics.geometric_mean(ratios) <= 1.05 and max(ratios) <= 10, (statistics.geometric_mean(ratios), max(ratios))


def outcome(action):
    """The type and text of the error that `action` raises, or None, and the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            action()
            error = None
        except Exception as raised:  # noqa: BLE001, any error at all
            error = (type(raised), str(raised))
    return error, [(warning.category, str(warning.message)) for warning in caught]


@pytest.mark.parametrize("info", [info for info in INFOS if info.module_error_inputs_func], ids=lambda info: info.name)
def test_errors_and_warnings(info):
    ours_class = getattr(tidegate.nn, info.module_cls.__name__)
    samples = info.module_error_inputs_func(info, device="cpu", dtype=torch.float32, requires_grad=False, training=True)
    assert samples
    raised = 0
    for sample in samples:
        made, given = sample.module_error_input.constructor_input, sample.module_error_input.forward_input
        found = []
        for module_class in (info.module_cls, ours_class):
            def run(module_class=module_class):
                module = module_class(*made.args, **made.kwargs)
                if given is not None:
                    module(*given.args, **given.kwargs)

            found.append(outcome(run))
        assert found[0] == found[1]
        raised += found[0][0] is not None
    assert raised
