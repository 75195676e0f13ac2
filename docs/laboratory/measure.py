"""Measure the laboratory's models, and write the figures beside this file, where docs/long_context.md finds them.

    python docs/laboratory/measure.py RUNS [--only laboratory-rope] [--jobs far,flat] [--backend c]

RUNS holds a directory for each training, named as its preset of tinyscout/train/recipe.py, further seeds with -seed-1
and so on behind it.  Of each the last checkpoint is measured.  A report that exists already stays; delete it to measure
anew.
log.csv is the log of one more training of `laboratory`, which had all cores to itself, as the job `clock` must have.
"""
import argparse
import re
import shutil
import sys
import tempfile
from pathlib import Path

DIRECTORY = Path(__file__).resolve().parent
sys.path.insert(0, str(DIRECTORY.parents[1]))

from tinyscout.cli import main  # noqa: E402
from tinyscout.train.checkpoints import saved_steps  # noqa: E402
from tinyscout.train.recipe import PRESETS  # noqa: E402

FACTS = "--facts 8 --queries 8"         # at every length: keys that resemble each other are a difficulty of their own
NEEDLES = f"--haystacks 32 {FACTS}"
JOBS = {                # name: the command, and the presets it is for, () for all
    "needles": (f"needle --contexts 512,1k,2k,4k,8k,20k {NEEDLES}", ()),
    "flat": (f"needle --contexts 512,2k,20k,51200 --no-temperature {NEEDLES}", ("laboratory", "laboratory-qk-nope")),
    "hundred": (f"needle --contexts 51200 {NEEDLES}", ("laboratory", "laboratory-qk-nope")),
    "million": (f"needle --contexts 1M --haystacks 16 {FACTS}", ("laboratory",)),
    "million-flat": (f"needle --contexts 1M --haystacks 16 {FACTS} --no-temperature", ("laboratory",)),
    "far": (f"needle --contexts 10M --haystacks 4 {FACTS}", ("laboratory",)),
    "far-flat": (f"needle --contexts 10M --haystacks 4 {FACTS} --no-temperature", ("laboratory",)),
    "straddle": (f"needle --contexts 512,20k --allow-straddle {NEEDLES}", ("laboratory",)),
    "control": (f"needle --contexts 512,20k --control {NEEDLES}", ("laboratory",)),
    "dense": ("needle --contexts 512,2k,8k,20k --density 64 --haystacks 32", ("laboratory",)),
    "clock": (f"needle --contexts 512,8k,51200,1M,10M --haystacks 1 {FACTS}", ("laboratory",)),    # all cores, alone
    "nll": ("nll --context 20k --texts 16", ()),
    "nll-flat": ("nll --context 20k --texts 16 --no-temperature", ("laboratory",)),
}


def measure(args):
    """Measure what is not measured yet  ->  exit code"""
    for run in sorted(args.runs.iterdir()):
        preset = re.sub(r"-seed-\d+$", "", run.name)
        if preset not in PRESETS or not preset.startswith("laboratory") or args.only not in (None, run.name):
            continue
        checkpoint = list(saved_steps(run).values())[-1]
        for job, (command, presets) in JOBS.items():
            file = DIRECTORY / f"{run.name}.{job}.json"
            if file.exists() or (presets and preset not in presets) or (args.jobs and job not in args.jobs):
                continue
            print(f"\n{run.name}: {command}", flush=True)
            with tempfile.TemporaryDirectory() as scratch:
                name, *words = command.split()
                words += ["--model", str(checkpoint), "--backend", args.backend, "--out", scratch]
                if code := main([name, *words]):
                    return code
                shutil.move(Path(scratch) / f"{name}.json", file)
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--only", metavar="NAME", help="the run of this name")
    parser.add_argument("--jobs", metavar="JOB,...", type=lambda text: text.split(","), help=", ".join(JOBS))
    parser.add_argument("--backend", default="c")
    sys.exit(measure(parser.parse_args()))
