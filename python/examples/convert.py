"""Trains a small forecaster with PyTorch's layers and with tidegate's, from the same seed: the same curve, sooner.

    python convert.py [--steps 100]

The task: the next value of a noisy wave whose frequency is new in every sequence; the sequences have different lengths.
"""

import argparse
import math
import sys
import time

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import tidegate


class Forecaster(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(1, 48, num_layers=2, dropout=0.1, batch_first=True)
        self.head = nn.Linear(48, 1)

    def forward(self, packed):
        output, _ = self.rnn(packed)
        return self.head(output.data)


def batch(generator, rows=32, steps=120):
    """Noisy waves, packed, and the value that follows each of theirs."""
    lengths = torch.randint(steps // 3, steps + 1, (rows,), generator=generator)
    frequency = 0.02 + 0.08 * torch.rand(rows, 1, generator=generator)
    phase = torch.rand(rows, 1, generator=generator)
    wave = torch.sin(2 * math.pi * (phase + frequency * torch.arange(steps + 1)))
    wave = (wave + 0.05 * torch.randn(rows, steps + 1, generator=generator))[:, :, None]
    pack = lambda x: pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)  # noqa: E731
    return pack(wave[:, :-1]), pack(wave[:, 1:]).data


def train(convert: bool, steps: int):
    """The loss of every step, and the seconds they took."""
    torch.manual_seed(0)
    model = Forecaster()
    if convert:
        tidegate.convert(model)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    generator, losses, start = torch.Generator().manual_seed(1), [], time.perf_counter()
    for _ in range(steps):
        x, following = batch(generator)
        loss = nn.functional.mse_loss(model(x), following)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses, time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100)
    steps = parser.parse_args().steps
    stock, stock_seconds = train(False, steps)
    ours, our_seconds = train(True, steps)
    largest = max(abs(a - b) for a, b in zip(stock, ours))
    for step in sorted({*range(0, steps, max(1, steps // 10)), steps - 1}):
        print(f"step {step + 1:4}: loss {stock[step]:.5f} with torch.nn, {ours[step]:.5f} with tidegate")
    print(f"largest difference {largest:.1e}; {stock_seconds:.1f} s with torch.nn, {our_seconds:.1f} s with tidegate")
    learned = sum(ours[-5:]) < sum(ours[:5]) / 4
    return 0 if largest <= 1e-4 and learned else 1


if __name__ == "__main__":
    sys.exit(main())
