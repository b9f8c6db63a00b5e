"""Draws FOLDER/results.json as FOLDER/chart.svg, and FOLDER/python.json as FOLDER/python.svg.

    python chart.py FOLDER

For every row the time of each library over tidegate's, each at its best thread count, on a
logarithmic axis: right of the line at 1 tidegate is faster.
"""

import json
import math
import os
import sys

PEERS = {"torch": ("PyTorch", "#d1495b"), "onnxruntime": ("ONNX Runtime", "#2e86ab"),
         "openvino": ("OpenVINO", "#7a9e3f"), "tract": ("tract", "#e3a72f"), "rten": ("rten", "#8d5fa8"),
         "candle": ("candle", "#4a4a4a"), "burn": ("burn", "#c88d6a")}
LEFT, RIGHT, TOP, LINE, MOST = 210, 30, 64, 15, 64
WIDTH = 860


def best(rows):
    """Microseconds of tidegate and of each peer, each at its best thread count."""
    times = {}
    for row in rows:
        for name, us in [("tidegate", row["us"]), *row["peers"].items()]:
            times[name] = min(us, times.get(name, math.inf))
    return times


def draw(results, title):
    names = list(dict.fromkeys(row["name"] for row in results["rows"]))
    height = TOP + LINE * len(names) + 30
    at = lambda ratio: LEFT + (WIDTH - LEFT - RIGHT) * (math.log2(min(max(ratio, 0.5), MOST)) + 1) / (math.log2(MOST) + 1)
    text = lambda x, y, words, more="": f'<text x="{x:.0f}" y="{y:.0f}" {more}>{words}</text>'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="11">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        text(10, 18, title, 'font-size="14"'),
        text(10, 34, results["cpu"] + "; h: hidden size, t: steps, b: batch, bi: bidirectional, 2x: two layers", 'fill="#555"'),
    ]
    x = 14
    for peer, (name, colour) in PEERS.items():
        if peer in results["versions"]:
            words = f"{name} {results['versions'][peer]}"
            lines.append(f'<circle cx="{x}" cy="48" r="4" fill="{colour}"/>')
            lines.append(text(x + 8, 52, words))
            x += 30 + 6 * len(words)
    ratio = 0.5
    while ratio <= MOST:
        x, colour = at(ratio), "#333" if ratio == 1 else "#ddd"
        lines.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{height - 26}" stroke="{colour}"/>')
        lines.append(text(x, height - 12, f"{ratio:g}", 'text-anchor="middle"'))
        ratio *= 2
    for k, name in enumerate(names):
        y = TOP + LINE * k + 10
        times = best([row for row in results["rows"] if row["name"] == name])
        lines.append(text(LEFT - 12, y + 4, name, 'text-anchor="end"'))
        for peer, (_, colour) in PEERS.items():
            if peer in times:
                x = at(times[peer] / times["tidegate"])
                lines.append(f'<circle cx="{x:.1f}" cy="{y}" r="4" fill="{colour}"/>')
    return "\n".join(lines + ["</svg>", ""])


def of_python(results):
    """The same with our Python package's time in place of the Rust call's."""
    return {**results, "rows": [{**row, "us": row["python_us"]} for row in results["rows"]]}


CHARTS = [
    ("results.json", "chart.svg", dict, "Time of other libraries over tidegate's, each at its best of one and two threads"),
    ("python.json", "python.svg", of_python, "Time of torch.nn over tidegate.nn's, in PyTorch, each at its best of one and two threads"),
]

if __name__ == "__main__":
    folder = sys.argv[1]
    for data, chart, shown, title in CHARTS:
        if os.path.exists(os.path.join(folder, data)):
            with open(os.path.join(folder, data)) as file:
                results = json.load(file)
            with open(os.path.join(folder, chart), "w") as file:
                file.write(draw(shown(results), title))
