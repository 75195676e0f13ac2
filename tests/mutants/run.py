"""Break the CUDA kernels on purpose, one line at a time, and see whether the laws notice.

    python tests/mutants/run.py [--only norm.cu] [--examples 200] [--processes 2]

Each fault of table.py is planted in a copy of csrc/cuda; then the laws of the operations that it concerns are tried in
the simulator until one is broken.  The score goes to docs/mutants.csv, which docs/mutants.md shows; --only changes its
own lines there.
"""
import argparse
import csv
import os
import shutil
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCORE = ROOT / "docs" / "mutants.csv"
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests/kernels")]

from mutants.table import CHECKS, MUTANTS, Mutant  # noqa: E402


def plant(mutant, source):
    """The file's text with the fault in it.  Raises ValueError where the line is not there, or not only once."""
    head, after, rest = source.partition(mutant.after) if mutant.after else ("", "", source)
    found = mutant.line in rest if mutant.after else rest.count(mutant.line) == 1
    if not found or mutant.line == mutant.replacement:
        raise ValueError(f"{mutant.file} holds {mutant.line!r} {rest.count(mutant.line)} times: change the table")
    return head + after + rest.replace(mutant.line, mutant.replacement, 1)


def judge(mutant, examples):
    """Plant one fault, or with an empty line none, and look  ->  who caught it and how, or None where nobody did"""
    from tinyscout.kernels import launch, nvrtc
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "cuda"
        shutil.copytree(ROOT / "csrc" / "cuda", copy)
        if mutant.line:
            (copy / mutant.file).write_text(plant(mutant, (copy / mutant.file).read_text()))
        nvrtc.SOURCE_DIR = copy
        launch.kernel.cache_clear()
        for name, check in checks(mutant.file, examples):
            try:
                check()
            except nvrtc.CompileError as error:
                raise ValueError(f"{mutant} does not compile: {error}") from None
            except Exception as error:          # a broken kernel may raise anything
                return name, describe_error(error)
    return None


def checks(file, examples):
    """(name, function) of everything that may notice a fault in a file."""
    from tinyscout import laws
    wanted = CHECKS[file]
    for case in laws.CASES:
        called = {case.name, case.name.split(": ")[0]}
        if called & set(wanted.laws) and not case.name.endswith("same signature"):
            yield case.name, partial(run_law_once, case, wanted.ops(), examples)
    yield from wanted.tests()


def run_law_once(case, ops, examples):
    """As laws.run_law, but the first input that breaks the law is enough: nobody wants it smaller here."""
    from hypothesis import HealthCheck, Phase, given, settings

    @settings(max_examples=examples, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))
    @given(drawn=case.inputs)
    def law_holds(drawn):
        case.law(ops, *drawn)

    law_holds()


def describe_error(error):
    """What a reader of the kernel would be told: the simulator's own words, or that the numbers are wrong."""
    from tinyscout.simulator import Fault
    return " ".join(str(error).split())[:200] if isinstance(error, Fault) else "a wrong result"


def judge_all(mutants, examples, processes):
    """Yield every mutant with its verdict, in order, `processes` of them at a time."""
    os.environ["TINYSCOUT_CUDA"] = "simulator"
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache            # what is broken on purpose stays out of the user's own
        with ProcessPoolExecutor(processes) as pool:
            sound = [Mutant(file, "", "", "") for file in dict.fromkeys(mutant.file for mutant in mutants)]
            for healthy, found in zip(sound, pool.map(partial(judge, examples=examples), sound), strict=True):
                if found:
                    raise ValueError(f"{healthy.file} as it is breaks a law, {': '.join(found)}: mend it first")
            yield from zip(mutants, pool.map(partial(judge, examples=examples), mutants), strict=True)


def score_row(mutant, found):
    """One line of the score."""
    by, how = found or ("nobody", f"makes no difference: {mutant.harmless}" if mutant.harmless else "survived")
    line, fault = (" ".join(text.split()) for text in (mutant.line, mutant.replacement))
    return [f"`{mutant.file}`", mutant.breaks, f"`{line}`", f"`{fault}`" if fault else "(nothing)", by, how]


def save_score(results):
    """Write these lines of the score, and leave those of the other faults of the table as they are."""
    old = list(csv.reader(SCORE.open(encoding="utf-8"))) if SCORE.exists() else []
    known = {tuple(line[:4]): line for line in [*old, *(score_row(*result) for result in results)]}
    wanted = [tuple(score_row(mutant, None)[:4]) for mutant in MUTANTS]
    with open(SCORE, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(known[line] for line in wanted if line in known)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", metavar="TEXT", default="", help="faults whose file or description holds TEXT")
    parser.add_argument("--examples", type=int, default=200, help="inputs tried per law (%(default)s)")
    parser.add_argument("--processes", type=int, default=2, help="faults at a time (%(default)s)")
    args = parser.parse_args()
    from rich.console import Console
    from rich.progress import track
    mutants = [m for m in MUTANTS if args.only in m.file or args.only in m.breaks]
    results = list(track(judge_all(mutants, args.examples, args.processes), "Planting faults", len(mutants),
                         console=Console(stderr=True)))
    survived = [m for m, found in results if not (found or m.harmless)]
    save_score(results)
    for mutant, found in results:
        end = "caught  " if found else "survived"
        print(f"{end} {mutant.file}: {mutant.breaks} ({': '.join(found or ['nobody'])})")
    print(f"{sum(found is not None for _, found in results)} of {len(results)} caught, {len(survived)} got away")
    return bool(survived)


if __name__ == "__main__":
    sys.exit(main())
