"""One slide prepared, trained on and predicted, by our commands and by the released pipeline's structure; Markdown.

    python compare.py PROGRAM FOLDER [--rounds 3] [--size-um 320] [--epochs 3] [--model published|magnet] [--json FILE]

The two in turn, `rounds` times; medians count. Needs MAGNET_PYTHON (tables, patches) and MAGNET_PYTORCH (the rest). Of
Python, starting and importing are not counted; of our program, everything is.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
# The released sizes are 1024, 64, 250 and 51 epochs: days on a processor.
SIZES = {"width": 128, "base": 16, "genes": 50, "batch": 256, "rate": 5e-3}
PHASES = ["prepare", "train", "predict"]


def main():
    options = arguments()
    folder = clear(options.folder)
    sizes = SIZES | {"epochs": options.epochs}
    made = ["synthesize", "--out", folder / "tissue", "--slides", 1, "--size-um", options.size_um, "--mpp", 0.25]
    execute([options.program, *made])
    source, encoder = folder / "tissue/synthetic_1", folder / "encoder.safetensors"
    execute([os.environ["MAGNET_PYTORCH"], HERE / "released_train.py", "encoder", encoder])
    rounds = {"ours": [], "theirs": []}
    for _ in range(options.rounds):
        rounds["ours"].append(ours(options, source, encoder, clear(folder / "ours"), sizes))
        rounds["theirs"].append(theirs(source, encoder, clear(folder / "theirs"), sizes))
    print_table(rounds)
    if options.json:
        Path(options.json).write_text(json.dumps({"sizes": sizes, "rounds": rounds}, indent=1))


def ours(options, source, encoder, out, sizes):
    # The slide's name is the file's, so that prediction finds the tiles' features of training, as theirs does.
    name, slide = source.name, source / f"{source.name}.tif"
    settings = {
        "model.width": sizes["width"],
        "model.patch_encoder.width_multiplier": sizes["base"] / 64,
        "model.depth.dropout": 0.0,
        "data.genes": sizes["genes"],
        "train.batch_bins": sizes["batch"],
        "train.epochs": sizes["epochs"],
        "train.learning_rate": sizes["rate"],
    }
    preset = {"published": "published", "magnet": "paper"}[options.model]
    train = ["--data", out / "data", "--train", name, "--out", out / "run", "--preset", preset, "--encoder", encoder]
    train += [word for key, value in settings.items() for word in ["--set", f"{key}={value}"]]
    predict = ["--model", out / "run/model.safetensors", "--image", slide, "--mpp", 0.25, "--out", out / "maps"]
    positions = source / "binned_outputs/square_008um/spatial/tissue_positions.parquet"
    predict += ["--positions", positions, "--formats", "csv", "--cache", out / "data/features"]
    commands = {
        "prepare": ["visium-hd", "--input", source, "--image", slide, "--out", out / "data", "--id", name],
        "train": [*train, "--device", "cpu"],
        "predict": [*predict, "--device", "cpu"],
    }
    done = {}
    for phase, words in commands.items():
        began = time.perf_counter()
        execute([options.program, phase, *words, "--quiet"])
        done[phase] = {"seconds": time.perf_counter() - began}
    return done


def theirs(source, encoder, out, sizes):
    python, pytorch = os.environ["MAGNET_PYTHON"], os.environ["MAGNET_PYTORCH"]
    slide, train = source / f"{source.name}.tif", HERE / "released_train.py"
    commands = {
        "prepare": [python, HERE / "released_prepare.py", source, slide, out, sizes["genes"]],
        "train": [pytorch, train, "train", out, encoder, json.dumps(sizes)],
        "predict": [pytorch, train, "predict", out, json.dumps(sizes)],
    }
    return {phase: json.loads(execute(words)) for phase, words in commands.items()}


def execute(command):
    return subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE, text=True).stdout


def clear(folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def print_table(rounds):
    count = len(rounds["ours"])
    print(f"| phase | ours, median of {count} (range) | the released structure | times ours |")
    print("| --- | ---: | ---: | ---: |")
    for phase in [*PHASES, "in all"]:
        times = {
            side: [sum(done[of]["seconds"] for of in PHASES if phase in [of, "in all"]) for done in runs]
            for side, runs in rounds.items()
        }
        middle = {side: statistics.median(seconds) for side, seconds in times.items()}
        cells = [f"{middle[side]:.2f} s ({min(of):.2f} to {max(of):.2f})" for side, of in times.items()]
        print(f"| {phase} | {' | '.join(cells)} | {middle['theirs'] / middle['ours']:.2f} |")
    print(f"\nTheirs: {json.dumps(rounds['theirs'][0])}")


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("program", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size-um", type=int, default=320)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--model", choices=["published", "magnet"], default="published")
    parser.add_argument("--json")
    return parser.parse_args()


if __name__ == "__main__":
    main()
