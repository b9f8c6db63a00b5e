"""Measures tidegate and other libraries on the same rows, round by round in turn.

    python peers.py --worker PATH [--rust PATH] [--filter TEXT] [--threads 1,2] [--rounds 7] [--record]
    python peers.py --worker PATH --python ...    our Python package, which must be installed, with and without
                                                  `prepack()`, beside PyTorch alone

Every library is a process of its own that answers the row first; one whose answer differs from ours
by more than 1e-4 is left out, loudly. Then each in turn runs a round of about 20 ms while the
others are stopped, so that no waiting thread of one costs another. Medians of the rounds count.
"""

import argparse
import json
import math
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import tempfile

import onnx_file
from rows import Row

HERE = os.path.dirname(os.path.abspath(__file__))
PYTHON_PEERS = ["torch", "onnxruntime", "openvino"]
RUST_PEERS = ["tract", "rten", "candle", "burn"]
TRAINING_PEERS = ["torch", "tidegate.nn"]
TOLERANCE = 1e-4


class Engine:
    """A library in a process that is stopped whenever it has nothing to do."""

    def __init__(self, name, command, environment=None):
        self.name, self.command, self.process = name, command, None
        self.environment = {**os.environ, **(environment or {})}

    def ask(self, line):
        if self.process is None or self.process.poll() is not None:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=self.environment
            )
        self.process.send_signal(signal.SIGCONT)
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
            reply = self.process.stdout.readline()
        except BrokenPipeError:
            reply = ""
        if not reply:
            self.process.wait()
            return {"skip": f"ended with status {self.process.returncode}"}
        self.process.send_signal(signal.SIGSTOP)
        return json.loads(reply)

    def memory(self, key):
        """Bytes in the process's `VmRSS` or, since the last `forget_peak`, its peak `VmHWM`."""
        with open(f"/proc/{self.process.pid}/status") as lines:
            return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(key))

    def forget_peak(self):
        with open(f"/proc/{self.process.pid}/clear_refs", "w") as file:
            file.write("5")

    def close(self):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.stdin.close()
            self.process.wait()


def measure(row, threads, ours, peers, rounds, versions):
    """The row's record: microseconds of every engine."""
    with tempfile.TemporaryDirectory() as folder:
        request = {**row, "threads": threads, "folder": folder, "seconds": 0.02}
        reply = ours.ask(json.dumps(request))
        record = {**row, "threads": threads, "limit_us": reply["limit_us"], "level": reply["level"], "peers": {}}
        request["lengths"] = reply["lengths"]
        if row["mode"] != "train":
            onnx_file.write(Row(request))
        there, skipped = [ours], {}
        for peer in peers:
            if row["mode"] == "train" and peer.name not in TRAINING_PEERS:
                continue
            answer = peer.ask(json.dumps(request))
            if "skip" in answer:
                skipped[peer.name] = answer["skip"]
            elif not answer["difference"] <= TOLERANCE:
                skipped[peer.name] = f"disagrees by {answer['difference']:.1e}"
                print(f"{row['name']}: {peer.name} DISAGREES by {answer['difference']:.1e}", file=sys.stderr)
            else:
                there.append(peer)
                versions[peer.name] = answer["version"]
        times, paces = {engine.name: [] for engine in there}, []
        for _ in range(rounds):
            paces.append(ours.ask("pace"))
            for engine in there:
                times[engine.name].append(1e6 * engine.ask("go"))
    record["limit_us"] *= statistics.median(paces)  # the limit of the same moments
    record["us"] = statistics.median(times.pop("tidegate"))
    record["percent"] = 100 * record["limit_us"] / record["us"]
    if "tidegate.nn" in times:
        record["python_us"] = statistics.median(times.pop("tidegate.nn"))
    if "as made" in times:
        record["as_made_us"] = statistics.median(times.pop("as made"))
    record["peers"] = {name: statistics.median(rounds) for name, rounds in times.items()}
    record["skipped"] = skipped
    return record


def memory(row, threads, ours, peers):
    """Bytes at the peak of a training call of each engine, in a new process, above those after a tiny row.

    Large memory that is given back goes to the system at once, or what was compared and written before would count where glibc
    keeps it for later.
    """
    tiny = {**row, "I": 4, "H": 4, "T": 2, "B": 1, "ragged": False}
    peaks = {}
    with tempfile.TemporaryDirectory() as folder:
        for engine in [ours, *(peer for peer in peers if peer.name in TRAINING_PEERS[:1])]:
            engine = Engine(engine.name, engine.command, {"MALLOC_MMAP_THRESHOLD_": "131072"})
            for shape in [tiny, row]:
                reply = (first := Engine(ours.name, ours.command)).ask(json.dumps({**shape, "threads": threads, "folder": folder, "seconds": 0}))
                first.close()
                engine.ask(json.dumps({**shape, "threads": threads, "folder": folder, "seconds": 0, "lengths": reply["lengths"]}))
                engine.ask("go")
                if shape is tiny:
                    base = engine.memory("VmRSS")
            engine.forget_peak()
            engine.ask("go")
            peaks[engine.name] = engine.memory("VmHWM") - base
            engine.close()
    return peaks


def mean(ratios):
    return math.exp(statistics.fmean(map(math.log, ratios))) if ratios else float("nan")


def summary(records):
    """Lines on how our times compare, per thread count and with each library at its best count."""
    for title, part in [("", [r for r in records if r["mode"] != "train"]), ("training, ", [r for r in records if r["mode"] == "train"])]:
        for line in part_summary(part):
            yield line if line.startswith(" ") else title + line


def part_summary(records):
    groups = {}
    for record in records:
        groups.setdefault(f"{record['threads']} thread(s)", []).append((record["name"], record["us"], record["peers"]))
    names = dict.fromkeys(record["name"] for record in records)
    best = []
    for name in names:
        rows = [record for record in records if record["name"] == name]
        peers = {peer for row in rows for peer in row["peers"]}
        at_best = {peer: min(row["peers"][peer] for row in rows if peer in row["peers"]) for peer in peers}
        best.append((name, min(row["us"] for row in rows), at_best))
    if len(groups) > 1:
        groups["each at its best"] = best
    for title, rows in groups.items():
        ratios = {name: min(peers.values()) / us for name, us, peers in rows if peers}
        torch = [peers["torch"] / us for _, us, peers in rows if "torch" in peers]
        slower = [f"{name} ({ratio:.2f})" for name, ratio in ratios.items() if ratio < 1]
        yield f"{title}: best peer / tidegate, geometric mean {mean(list(ratios.values())):.2f}; PyTorch / tidegate {mean(torch):.2f}"
        yield f"  slower than the best peer on {len(slower)} of {len(ratios)} rows" + (": " + ", ".join(slower) if slower else "")
    overheads = [record["python_us"] - record["us"] for record in records if "python_us" in record]
    if overheads:
        near = [record["python_us"] <= 1.1 * record["us"] + 10 for record in records]
        ratios = [record["peers"]["torch"] / record["python_us"] for record in records]
        yield f"tidegate.nn: within 10 % and 10 us of the Rust call on {sum(near)} of {len(near)} rows; PyTorch / tidegate.nn: geometric mean {mean(ratios):.2f}, least {min(ratios):.2f}"
    ratios = [record["peers"]["torch"] / record["as_made_us"] for record in records if "as_made_us" in record]
    if ratios:
        yield f"  without prepack(): geometric mean {mean(ratios):.2f}, least {min(ratios):.2f}"
    peaks = [(record["name"], record["peak_bytes"]) for record in records if len(record.get("peak_bytes", {})) > 1]
    if peaks:
        ratios = [bytes["torch"] / bytes["tidegate"] for _, bytes in peaks]
        more = sorted({name for (name, _), ratio in zip(peaks, ratios) if ratio < 1})
        yield f"peak memory of PyTorch / tidegate: geometric mean {mean(ratios):.2f}, least {min(ratios):.2f}; more than PyTorch's: {', '.join(more) or 'none'}"
    for threads in sorted({record["threads"] for record in records}):
        percents = [r["percent"] for r in records if r["threads"] == threads and r["H"] >= 16]
        near = sum(percent >= 85 for percent in percents)
        if percents:
            yield f"{threads} thread(s), H >= 16: at least 85 % of the limit on {near} of {len(percents)} rows, least {min(percents):.0f} %"


def cpu_name():
    """With the numbers of family and model, as virtual machines hide what would tell one generation from the next."""
    try:
        with open("/proc/cpuinfo") as lines:
            about = dict(map(str.strip, line.split(":", 1)) for line in lines if ":" in line)
        return f"{about['model name']} (family {about['cpu family']}, model {about['model']})"
    except (OSError, KeyError):
        return platform.processor() or platform.machine()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worker", required=True)
    parser.add_argument("--rust", help="the program bench/rust builds")
    parser.add_argument("--filter", default="")
    parser.add_argument("--threads", default="1,2", type=lambda text: [int(n) for n in text.split(",")])
    parser.add_argument("--rounds", default=7, type=int)
    parser.add_argument("--python", action="store_true", help="measure the Python package")
    parser.add_argument("--record", action="store_true", help="keep the results in bench/record")
    options = parser.parse_args()

    rows = subprocess.run([options.worker, "rows", options.filter], check=True, capture_output=True, text=True).stdout
    rows = [json.loads(line) for line in rows.splitlines()]
    if not rows:
        sys.exit(f"no row of the grid has `{options.filter}` in its name")
    ours = Engine("tidegate", [options.worker])
    python_peers = ["torch", "tidegate.nn", "as made"] if options.python else PYTHON_PEERS
    peers = [Engine(name, [sys.executable, os.path.join(HERE, "engines.py"), name]) for name in python_peers]
    if options.rust:
        peers += [Engine(name, [options.rust, name]) for name in RUST_PEERS]
    names = [peer.name for peer in peers]
    width, versions, records = max(len(row["name"]) for row in rows), {}, []
    print(f"{'row':{width}} threads {'us':>10} {'% limit':>8} " + " ".join(f"{name:>12}" for name in names) + "  best peer / tidegate")
    try:
        for row in rows:
            for threads in options.threads:
                record = measure(row, threads, ours, peers, options.rounds, versions)
                if row["mode"] == "train" and not options.python and threads == options.threads[0]:
                    record["peak_bytes"] = memory(row, threads, ours, peers)
                records.append(record)
                beside = {"tidegate.nn": record.get("python_us"), "as made": record.get("as_made_us")}
                found = {**record["peers"], **{name: us for name, us in beside.items() if us is not None}}
                times = " ".join(f"{found[name]:12.1f}" if name in found else f"{'-':>12}" for name in names)
                ratio = min(record["peers"].values(), default=math.nan) / record["us"]
                print(f"{row['name']:{width}} {threads:7} {record['us']:10.3f} {record['percent']:8.0f} {times} {ratio:10.2f}", flush=True)
    finally:
        for engine in [ours, *peers]:
            engine.close()
    print(*summary(records), sep="\n")
    if options.record:
        name = re.sub(r"[^a-z0-9]+", "-", cpu_name().lower()).strip("-")
        folder = os.path.join(HERE, "record", name)
        os.makedirs(folder, exist_ok=True)
        results = {"cpu": cpu_name(), "versions": versions, "tolerance": TOLERANCE, "rounds": options.rounds, "rows": records}
        files = [("results.json", [row for row in records if row["mode"] != "train"]), ("training.json", [row for row in records if row["mode"] == "train"])]
        for file_name, of_file in [("python.json", records)] if options.python else files:
            if of_file:
                with open(os.path.join(folder, file_name), "w") as file:
                    json.dump({**results, "rows": of_file}, file, indent=1)
                    file.write("\n")
        subprocess.run([sys.executable, os.path.join(HERE, "chart.py"), folder], check=True)


if __name__ == "__main__":
    main()
