"""`magnet-native bench` beside PyTorch: encoder, whole forward, training step; prints Markdown.

    python compare.py PROGRAM [--only encode,forward,train-step] [--bins 256,1024,4096] [--rounds 3] [--repeats 3]
        [--torch-device cpu|cuda] [--json FILE]

Every way runs in a process of its own, the ways in turn, `rounds` times; the medians of all repetitions count. Ours
comes first: PyTorch takes the shapes that it printed. The opponent is the fastest PyTorch that holds its graph as the
released code does, as a dense matrix. Memory is that of a whole process; ours has measured its floor in it.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

MEASURE = Path(__file__).resolve().with_name("measure.py")


def main():
    options = arguments()
    threads = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    print(f"PyTorch {torch.__version__}; {threads['cores']} cores; {options.rounds} rounds\n")
    tables = [compare(options, *comparison) for comparison in comparisons(options)]
    if options.json:
        Path(options.json).write_text(json.dumps({"torch": torch.__version__, **threads, "tables": tables}, indent=1))


def comparisons(options):
    """Title, our arguments, ways of PyTorch by name, repetitions: fewer of what takes long."""
    encoders = variants(options, {"NCHW": ["--layout", "nchw"], "channels last": ["--layout", "channels_last"]})
    graphs = variants(options, {"dense": ["--graph", "dense"], "neighbour tables": ["--graph", "tables"]})
    if "encode" in options.only:
        for patches, side in [(64, 112), (16, 224)]:
            ours = ["--only", "encode", "--patches", patches, "--patch-px", side]
            yield f"ResNet-50, {patches} patches of {side} px", ours, encoders, options.repeats
    if "forward" in options.only:
        for preset in ["paper", "demo", "published"]:
            dense = {name: way for name, way in graphs.items() if "dense" in name}
            for bins in options.bins:
                ours = ["--only", "forward", "--preset", preset, "--bins", bins]
                ways = dense if preset == "published" else graphs
                repeats = 1 if preset == "paper" and bins > 1024 else options.repeats
                yield f"forward, preset {preset}, blocks of {bins} bins at most", ours, ways, repeats
    if "train-step" in options.only:
        ours = ["--only", "train-step", "--bins", options.train_bins]
        yield f"training step, {options.train_bins} bins", ours, encoders, 1


def variants(options, ways):
    """Every way eager and, if asked for, compiled, in each precision."""
    precisions = ["f32", "tf32", "bf16"] if options.torch_device == "cuda" else ["f32"]
    modes = ["eager"] + ["compiled"] * options.compile
    return {
        f"PyTorch {mode}, {name}" + (f", {precision}" if len(precisions) > 1 else ""): [
            *way, "--mode", mode, "--precision", precision, "--device", options.torch_device
        ]
        for name, way in ways.items() for mode in modes for precision in precisions
    }  # fmt: skip


def compare(options, title, ours, ways, repeats):
    rows = {"magnet-native": []} | {name: [] for name in ways}
    count = ["--repeats", repeats, "--warm-up", 1]
    for _ in range(options.rounds):
        own = [options.program, "bench", *ours, *count, "--device", options.device, "--json"]
        rows["magnet-native"].append(run(own))
        shape = rows["magnet-native"][0]["shape"]
        for name, way in ways.items():
            command = [sys.executable, MEASURE, ours[1], "--shape", json.dumps(shape), *way, *count]
            rows[name].append(run(command))
    rows = {name: [report for report in reports if report] for name, reports in rows.items()}
    summary = [summarise(name, reports) for name, reports in rows.items() if reports]
    print_table(title, shape, summary)
    return {"title": title, "shape": shape, "rows": summary, "missing": [name for name in rows if not rows[name]]}


def run(command):
    """The one measurement that a program printed, with its floor and its largest resident memory, or None."""
    print("running", *map(str, command[1:]), file=sys.stderr)
    with tempfile.TemporaryFile() as errors, tempfile.TemporaryFile() as output:
        child = subprocess.Popen(list(map(str, command)), stdout=output, stderr=errors)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0), errors.seek(0)
        if child.returncode:
            print(f"failed: {errors.read().decode(errors='replace')[-2000:]}", file=sys.stderr)
            return None
        report = json.load(output)
    return report["measurements"][0] | {"gflops": report["matrix_gflops"], "peak_bytes": usage.ru_maxrss * 1024}


def summarise(name, reports):
    seconds = [second for report in reports for second in report["seconds"]]
    summary = {"name": name, "seconds": seconds, "median": statistics.median(seconds), "unit": reports[0]["unit"]}
    summary["rate"] = statistics.median(report["rate"] for report in reports)
    summary["matrix_gflops"] = statistics.median(report["gflops"] for report in reports)
    summary |= {"operations": reports[0]["operations"], "parameters": reports[0]["shape"].get("parameters")}
    summary["peak_bytes"] = max(report["peak_bytes"] for report in reports)
    return summary


def print_table(title, shape, rows):
    own = rows[0]["median"]
    print(f"**{title}** ({', '.join(f'{key} {value}' for key, value in shape.items())})\n")
    print(f"| way | median of {len(rows[0]['seconds'])} (range) | rate | times ours | its matrix products | memory |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for row in rows:
        low, high = min(row["seconds"]), max(row["seconds"])
        time = f"{row['median']:.3g} s ({low:.3g} to {high:.3g})"
        rate, floor = f"{row['rate']:.3g} {row['unit']}", f"{row['matrix_gflops']:.3g} GFLOP/s"
        memory = f"{row['peak_bytes'] / 1e9:.1f} GB"
        print(f"| {row['name']} | {time} | {rate} | {row['median'] / own:.2f} | {floor} | {memory} |")
    opponents = [row for row in rows[1:] if "tables" not in row["name"]]
    if opponents:
        best = min(opponents, key=lambda row: row["median"])
        print(f"\nThe opponent, {best['name']}, takes {best['median'] / own:.2f} times as long as ours.\n", flush=True)


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    names = ["encode", "forward", "train-step"]
    parser.add_argument("--only", type=lambda text: text.split(","), default=names)
    parser.add_argument("--bins", type=lambda text: list(map(int, text.split(","))), default=[256, 1024, 4096])
    parser.add_argument("--train-bins", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--torch-device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--no-compile", dest="compile", action="store_false")
    parser.add_argument("--json")
    options = parser.parse_args()
    if unknown := set(options.only) - set(names):
        parser.error(f"--only takes {', '.join(names)}, not {', '.join(unknown)}")
    if options.torch_device == "cuda" and not torch.cuda.is_available():
        parser.error("PyTorch sees no GPU here")
    options.device = "gpu" if options.torch_device == "cuda" else "cpu"
    return options


if __name__ == "__main__":
    main()
