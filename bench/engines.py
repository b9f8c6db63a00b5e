"""Runs rows of the grid in one other library, for peers.py.

    python engines.py torch|onnxruntime|openvino|tidegate.nn

Speaks the protocol of tidegate-bench-worker: a line with a JSON object prepares a row from the files
in its folder (raw float32: `x`, the parameters by name, our `answer`; and `model.onnx`), and `go`
times a round. The reply to the first is {"calls": K, "difference": largest difference from our answer} or
{"skip": reason}, to the second the seconds of one call.
"""

import importlib.metadata
import json
import sys
import time

import numpy as np

from rows import Row, STREAM_STEPS


class Torch:
    """torch.nn; of a step, the module and the cell, whichever is faster."""

    takes_lengths = False

    def __init__(self):
        import torch

        self.torch, self.modules = torch, torch.nn
        torch.set_grad_enabled(False)
        self.version = torch.__version__.split("+")[0]

    def prepare(self, row):
        torch = self.torch
        torch.set_num_threads(row.threads)
        torch.set_grad_enabled(row.train)
        kind = getattr(self.modules, row.cell.upper())
        module = kind(row.I, row.H, row.L, bidirectional=row.D == 2).eval()
        for name, tensor in module.named_parameters():
            tensor.data.copy_(torch.from_numpy(row.read(name, list(tensor.shape))))
        x = torch.from_numpy(row.x)
        if row.train:
            return self.prepare_training(row, module.train(), x)
        self.settle(module)
        if row.step:
            return self.prepare_step(row, module, x)
        if not row.ragged:
            return lambda: module(x)[0].numpy(), None
        return self.ragged(row, module, x)

    def ragged(self, row, module, x):
        rnn = self.torch.nn.utils.rnn
        lengths = self.torch.tensor(row.lengths)

        def call():
            packed = rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
            return rnn.pad_packed_sequence(module(packed)[0], total_length=row.T)[0].numpy()

        return call, None

    def settle(self, module):
        """What is done once for a module whose weights will not change."""

    def prepare_training(self, row, module, x):
        torch, rnn = self.torch, self.torch.nn.utils.rnn
        d_output = torch.from_numpy(row.read("d_output", [row.T, row.B, row.D * row.H]))
        parameters = list(module.parameters())

        def call():
            module.zero_grad(set_to_none=True)
            if row.ragged and self.takes_lengths:
                output = module(x, lengths=row.lengths)[0]
            elif row.ragged:
                packed = rnn.pack_padded_sequence(x, torch.tensor(row.lengths), enforce_sorted=False)
                output = rnn.pad_packed_sequence(module(packed)[0], total_length=row.T)[0]
            else:
                output = module(x)[0]
            output.backward(d_output)
            return parameters

        return call, None

    def prepare_step(self, row, module, x):
        torch = self.torch
        cell = getattr(self.modules, row.cell.upper() + "Cell")(row.I, row.H).eval()
        for name, tensor in cell.named_parameters():
            tensor.copy_(torch.from_numpy(row.read(name + "_l0", list(tensor.shape))))
        self.settle(cell)
        zeros = lambda *shape: tuple(torch.zeros(*shape) for _ in range(row.states))
        state = {}

        def reset():
            state.update(t=0, cell=zeros(row.B, row.H), module=zeros(1, row.B, row.H))

        def next_x():
            t = state["t"]
            state["t"] = (t + 1) % STREAM_STEPS
            return t

        def by_cell():
            h = state["cell"]
            new = cell(x[next_x()], h if row.states == 2 else h[0])
            state["cell"] = new if row.states == 2 else (new,)
            return state["cell"][0].numpy()

        def by_module():
            t, h = next_x(), state["module"]
            y, new = module(x[t : t + 1], h if row.states == 2 else h[0])
            state["module"] = new if row.states == 2 else (new,)
            return y[0].numpy()

        def seconds(call):
            reset()
            for _ in range(50):
                call()
            start = time.perf_counter()
            for _ in range(200):
                call()
            return time.perf_counter() - start

        return min([by_cell, by_module], key=seconds), reset


class OnnxRuntime:
    """ONNX Runtime with bound inputs and outputs; of a step, two bindings by turns carry the state."""

    def __init__(self):
        import onnxruntime

        self.ort = onnxruntime
        self.version = onnxruntime.__version__

    def prepare(self, row):
        ort = self.ort
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = row.threads, 1
        session = ort.InferenceSession(row.onnx, options, providers=["CPUExecutionProvider"])
        if not row.step:
            binding = session.io_binding()
            x, y = ort.OrtValue.ortvalue_from_numpy(row.x), ort.OrtValue.ortvalue_from_numpy(np.zeros_like(row.answer))
            binding.bind_ortvalue_input("x", x)
            binding.bind_ortvalue_output("y", y)

            def call():
                session.run_with_iobinding(binding)
                return y

            return call, None
        value = lambda *shape: ort.OrtValue.ortvalue_from_numpy(np.zeros(shape, np.float32))
        states = [[value(1, row.B, row.H) for _ in range(row.states)] for _ in range(2)]
        xs = [ort.OrtValue.ortvalue_from_numpy(row.x[t : t + 1]) for t in range(STREAM_STEPS)]
        y, turn, bindings = value(1, row.B, row.H), [0], []
        for t in range(STREAM_STEPS):
            binding = session.io_binding()
            binding.bind_ortvalue_input("x", xs[t])
            binding.bind_ortvalue_output("y", y)
            for k in range(row.states):
                binding.bind_ortvalue_input("hc"[k] + "0", states[t % 2][k])
                binding.bind_ortvalue_output("hc"[k] + "n", states[1 - t % 2][k])
            bindings.append(binding)

        def reset():
            turn[0] = 0
            for tensor in states[0]:
                tensor.update_inplace(np.zeros((1, row.B, row.H), np.float32))

        def call():
            session.run_with_iobinding(bindings[turn[0]])
            turn[0] = (turn[0] + 1) % STREAM_STEPS
            return y

        return call, reset


class OpenVino:
    """OpenVINO on the same ONNX file, in float32."""

    def __init__(self):
        import openvino

        self.ov, self.core = openvino, openvino.Core()
        self.version = openvino.__version__.split("-")[0]

    def prepare(self, row):
        settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": row.threads,
                    "PERFORMANCE_HINT": "LATENCY"}
        request = self.core.compile_model(row.onnx, "CPU", settings).create_infer_request()
        tensor = lambda array: self.ov.Tensor(array, shared_memory=True)
        y = np.zeros([1, row.B, row.H] if row.step else row.answer.shape, np.float32)
        request.set_tensor("y", tensor(y))
        if not row.step:
            request.set_tensor("x", tensor(row.x))

            def call():
                request.infer()
                return y

            return call, None
        zeros = lambda: np.zeros([1, row.B, row.H], np.float32)
        states = [[zeros() for _ in range(row.states)] for _ in range(2)]
        shared = [[tensor(array) for array in side] for side in states]
        xs = [tensor(row.x[t : t + 1]) for t in range(STREAM_STEPS)]
        turn = [0]

        def reset():
            turn[0] = 0
            for array in states[0]:
                array.fill(0)

        def call():
            t = turn[0]
            request.set_tensor("x", xs[t])
            for k in range(row.states):
                request.set_tensor("hc"[k] + "0", shared[t % 2][k])
                request.set_tensor("hc"[k] + "n", shared[1 - t % 2][k])
            request.infer()
            turn[0] = (t + 1) % STREAM_STEPS
            return y

        return call, reset


class TidegateNn(Torch):
    """Our own modules for PyTorch; sequences of different lengths by `lengths`, without packing."""

    takes_lengths = True

    def __init__(self):
        super().__init__()
        import tidegate

        self.modules, self.version = tidegate.nn, importlib.metadata.version("tidegate")

    def settle(self, module):
        module.prepack()

    def ragged(self, row, module, x):
        return lambda: module(x, lengths=row.lengths)[0].numpy(), None


class TidegateNnAsMade(TidegateNn):
    """The same without `prepack()`."""

    def settle(self, module):
        pass


ENGINES = {"torch": Torch, "tidegate.nn": TidegateNn, "as made": TidegateNnAsMade, "onnxruntime": OnnxRuntime, "openvino": OpenVino}


def answer(row, call, reset):
    """What the engine answers to all of x."""
    as_array = lambda y: np.array(y.numpy() if hasattr(y, "numpy") else y)
    if row.train:
        return np.concatenate([parameter.grad.numpy().ravel() for parameter in call()])
    if not row.step:
        return as_array(call())
    reset()
    return np.stack([as_array(call()).reshape(row.B, row.H) for _ in range(STREAM_STEPS)])


def calls_in(call, seconds):
    """The number of calls that take about `seconds`, at least one."""
    call()
    calls = 1
    while True:
        start = time.perf_counter()
        for _ in range(calls):
            call()
        took = time.perf_counter() - start
        if took > seconds / 4:
            return max(1, int(calls * seconds / took))
        calls *= 2


def serve(engine):
    call, calls = None, 0
    for line in sys.stdin:
        if line.strip() == "go":
            call()
            start = time.perf_counter()
            for _ in range(calls):
                call()
            reply = (time.perf_counter() - start) / calls
        else:
            row = Row(json.loads(line))
            try:
                call, reset = engine.prepare(row)
                largest = np.abs(row.answer).max() if row.train else 1.0
                difference = float(np.abs(answer(row, call, reset) - row.answer).max() / largest)
                row.answer = None  # or it would count as memory of the calls
                calls = calls_in(call, row.seconds)
                reply = {"calls": calls, "difference": difference, "version": engine.version}
            except Exception as error:  # whatever the library throws, this row goes without it
                reply = {"skip": str(error).splitlines()[0][:200]}
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    serve(ENGINES[sys.argv[1]]())
