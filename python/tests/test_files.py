"""Layers from files, on numpy alone."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import tidegate


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    model = torch.nn.ModuleDict({"encoder": torch.nn.LSTM(3, 5, num_layers=2, proj_size=4), "decoder": torch.nn.GRU(4, 6, bidirectional=True)})
    torch.save(model.state_dict(), tmp_path / "model.pt")
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    np.savez(tmp_path / "model.npz", **{name: tensor.numpy() for name, tensor in model.state_dict().items()})
    return model


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors", "model.npz"])
def test_layers_of_every_format(tmp_path, model, name):
    found = tidegate.inspect(tmp_path / name)
    assert sorted(layer["name"] for layer in found) == ["decoder", "encoder"]
    assert {layer["layer"] for layer in found} == {"LSTM(3, 5, proj_size=4, num_layers=2)", "GRU(4, 6, bidirectional=True)"}
    for part, inputs in (("encoder", 3), ("decoder", 4)):
        layer = tidegate.load(tmp_path / name, part)
        x = torch.randn(7, 2, inputs)
        want, hidden = model[part](x)
        output, state = layer.forward(x.numpy())
        np.testing.assert_allclose(output, want.detach().numpy(), rtol=0, atol=2e-6)
        for got, h in zip(state if part == "encoder" else [state], hidden if part == "encoder" else [hidden]):
            np.testing.assert_allclose(got, h.detach().numpy(), rtol=0, atol=2e-6)


def test_streams_have_the_bits_of_whole_calls(tmp_path, model):
    layer = tidegate.load(tmp_path / "model.pt", "encoder")
    x = np.random.default_rng(0).standard_normal((9, 2, 3)).astype(np.float32)
    want, state = layer(x)
    stream = layer.stream(2)
    got = np.concatenate([stream.push(x[:4]), stream.step(x[4])[None], stream.push(x[5:])])
    assert np.array_equal(got, want) and all(np.array_equal(a, b) for a, b in zip(stream.state, state))
    stream.reset()
    assert np.array_equal(stream.step(x[0]), want[0])
    first = layer.forward(x[:4])[1]
    stream.state = first
    assert np.array_equal(stream.push(x[4:]), want[4:])
    alone = layer.stream()
    assert np.array_equal(np.stack([alone.step(row) for row in x[:, 0]]), want[:, 0])
    assert np.array_equal(layer(x[:, 0])[0], want[:, 0])


def test_state_lengths_strides_and_types(tmp_path, model):
    layer = tidegate.load(tmp_path / "model.npz", "decoder", dtype=np.float64)
    x = np.random.default_rng(0).standard_normal((2, 6, 8))[::-1, :, ::2].transpose(1, 0, 2)
    output, state = layer(x, lengths=[2, 6])
    assert output.dtype == np.float64 and not output[2:, 0].any()
    short, last = layer(np.ascontiguousarray(x[:2, :1]))
    assert np.array_equal(short, output[:2, :1]) and np.array_equal(last, state[:, :1])
    again, _ = layer(x.astype(np.float32), state)
    assert again.shape == (6, 2, 12)


def test_errors(tmp_path, model):
    layer = tidegate.load(tmp_path / "model.pt", "encoder")
    with pytest.raises(ValueError, match=r"x: expected shape \(\*, \*, 3\), got \(2, 2, 4\)"):
        layer(np.zeros((2, 2, 4)))
    with pytest.raises(TypeError, match="complex"):
        layer(np.zeros((2, 2, 3), complex))
    with pytest.raises(TypeError, match="pair"):
        layer(np.zeros((2, 1, 3)), np.zeros((2, 1, 4)))
    with pytest.raises(ValueError, match="h of the state"):
        layer(np.zeros((2, 1, 3)), (np.zeros((2, 2, 4)), np.zeros((2, 1, 5))))
    with pytest.raises(ValueError, match="lengths"):
        layer(np.zeros((2, 1, 3)), lengths=[-1])
    with pytest.raises(ValueError, match="3"):
        layer(np.zeros((2, 1, 3)), lengths=[3])
    with pytest.raises(ValueError, match="encoder"):
        tidegate.load(tmp_path / "model.pt")  # there are two
    with pytest.raises(FileNotFoundError, match="nothing.pt"):
        tidegate.load(tmp_path / "nothing.pt")
    with pytest.raises(OSError, match="not a file"):
        tidegate.load(tmp_path)
    (tmp_path / "bad.pt").write_bytes(b"no model")
    with pytest.raises(ValueError, match="bad.pt"):
        tidegate.load(tmp_path / "bad.pt")
    with pytest.raises(ValueError, match="stream"):
        tidegate.load(tmp_path / "model.pt", "decoder").stream()
    with pytest.raises(TypeError, match="float32 or float64"):
        tidegate.load(tmp_path / "model.pt", "decoder", dtype=np.float16)


def test_what_a_file_does_not_say(tmp_path):
    torch.manual_seed(0)
    rnn = torch.nn.RNN(3, 5, nonlinearity="relu").double()
    torch.save(rnn.state_dict(), tmp_path / "rnn.pt")
    torch.save(torch.nn.GRUCell(3, 4).state_dict(), tmp_path / "cell.pt")
    x = torch.randn(7, 2, 3, dtype=torch.float64)
    output, _ = tidegate.load(tmp_path / "rnn.pt", nonlinearity="relu")(x.numpy())
    assert output.dtype == np.float64  # as the file
    np.testing.assert_allclose(output, rnn(x)[0].detach().numpy(), rtol=0, atol=1e-12)
    assert tidegate.load(tmp_path / "rnn.pt", dtype=np.float32)(x.numpy())[0].dtype == np.float32
    assert "relu" not in repr(tidegate.load(tmp_path / "rnn.pt"))
    assert [layer["layer"] for layer in tidegate.inspect(tmp_path / "cell.pt")] == ["GRUCell(3, 4)"]
    with pytest.raises(ValueError, match="'tanh' or 'relu', got 'sigmoid'"):
        tidegate.load(tmp_path / "rnn.pt", nonlinearity="sigmoid")
    with pytest.raises(ValueError, match=r"only of an RNN, and this is GRUCell\(3, 4\)"):
        tidegate.load(tmp_path / "cell.pt", nonlinearity="relu")


def test_pytorch_is_not_imported(tmp_path, model):
    code = f"import sys, tidegate; tidegate.load({str(tmp_path / 'model.pt')!r}, 'encoder'); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
