"""Other processes and threads: distributed training, forked workers, and calls from several threads at once."""

import concurrent.futures
import os

import pytest
import torch
import torch.distributed
import torch.multiprocessing

import tidegate


def model():
    torch.manual_seed(0)
    return torch.nn.ModuleDict({"rnn": tidegate.nn.LSTM(3, 8, num_layers=2), "head": torch.nn.Linear(8, 1)})


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.parts = model()

    def forward(self, x):
        return self.parts["head"](self.parts["rnn"](x)[0])


def batch():
    return torch.randn(6, 4, 3, generator=torch.Generator().manual_seed(1))


def train(rank, address, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    net = torch.nn.parallel.DistributedDataParallel(Net())
    net(batch()[:, 2 * rank : 2 * rank + 2]).square().mean().backward()
    if rank == 0:
        torch.save([p.grad for p in net.parameters()], os.path.join(folder, "gradients.pt"))
    torch.distributed.barrier()  # none leaves while another still talks
    torch.distributed.destroy_process_group()


def test_two_processes_have_the_gradients_of_one_on_the_joint_batch(tmp_path):
    torch.multiprocessing.spawn(train, (f"file://{tmp_path}/meeting", str(tmp_path)), nprocs=2)
    net = Net()
    net(batch()).square().mean().backward()
    got = torch.load(tmp_path / "gradients.pt")
    for g, p in zip(got, net.parameters(), strict=True):
        torch.testing.assert_close(g, p.grad, rtol=0, atol=2e-6)


class Data(torch.utils.data.Dataset):
    def __init__(self):
        self.layer = tidegate.nn.GRU(16, 64)
        self.x = torch.randn(50, 8, 16)

    def __len__(self):
        return 6

    def __getitem__(self, k):
        with torch.no_grad():
            return self.layer(self.x * k)[0]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_forked_workers():
    data = Data()
    want = [data[k] for k in range(6)]  # threads are running before the fork
    loader = torch.utils.data.DataLoader(data, batch_size=None, num_workers=2, multiprocessing_context="fork")
    assert all(torch.equal(got, w) for got, w in zip(loader, want, strict=True))


def test_threads_share_a_layer():
    layer, x = tidegate.nn.LSTM(8, 32), torch.randn(40, 4, 8)

    def run(_):
        output, _ = layer(x)
        return torch.autograd.grad(output.square().sum(), list(layer.parameters()))

    want = run(0)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for got in pool.map(run, range(64)):
            assert all(torch.equal(g, w) for g, w in zip(got, want))


def test_any_number_of_threads_gives_the_same_bits():
    layer, x = tidegate.nn.LSTM(64, 128, num_layers=2), torch.randn(50, 16, 64)
    before, results = torch.get_num_threads(), []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        output, _ = layer(x)
        results.append([output, *torch.autograd.grad(output.square().sum(), list(layer.parameters()))])
    torch.set_num_threads(before)
    assert all(torch.equal(a, b) for other in results[1:] for a, b in zip(results[0], other))
