"""Train a model from scratch, or fine-tune one; after an interruption the same command resumes."""
import shutil
from dataclasses import replace
from pathlib import Path

import tinyscout
from tinyscout.cli import add_backend_argument, make_console, positive_int
from tinyscout.data.corpus import load_corpus
from tinyscout.model import get_backend
from tinyscout.nn.weights import count_parameters
from tinyscout.train import PRESETS, train

EXAMPLE = """\
examples:
  tinyscout train --preset laboratory --backend c
  tinyscout train --preset scout-mini --backend c --out runs/mini
  tinyscout train --from runs/mini/step-011000 --preset finetune --text my/code --lora 8 --out runs/mine
  tinyscout train --preset laboratory --teacher runs/laboratory/step-001500 --distill-weight 0.8 0.2 --out runs/pupil

Without --text, the training text is Python's standard library.  The run directory gets checkpoints, which you can pass
to the other commands as --model, log.csv with a line for each step, and log.png."""


def add_arguments(sub):
    sub.add_argument("--preset", default="laboratory", choices=list(PRESETS), help="model and recipe (%(default)s)")
    sub.add_argument("--out", metavar="DIR", help="run directory (runs/PRESET)")
    add_backend_argument(sub)
    sub.add_argument("--from", dest="source", metavar="DIR", help="fine-tune this checkpoint")
    sub.add_argument("--text", nargs="+", metavar="PATH", help="train on these files and directories")
    sub.add_argument("--steps", type=positive_int, metavar="N", help="number of training steps")
    sub.add_argument("--seed", type=int, metavar="S", help="random seed for weights and data order")
    sub.add_argument("--grad-accum", type=positive_int, metavar="N",
                     help="gradient accumulation: split each step into N batches to save memory")
    sub.add_argument("--optimizer", choices=["muon", "adamw"], help="optimizer of the hidden matrices")
    sub.add_argument("--lr", type=float, metavar="LR", help="peak learning rate of AdamW")
    sub.add_argument("--lora", type=positive_int, metavar="RANK", help="with --from: train low-rank adapters only")
    sub.add_argument("--teacher", metavar="DIR", help="checkpoint to distill from; it must have the same vocabulary")
    sub.add_argument("--distill-weight", type=float, nargs=2, metavar=("FIRST", "LAST"),
                     help="weight of the teacher in the loss, 0 to 1, at the first step and after the last (0.5 0)")
    sub.add_argument("--export", metavar="DIR", help="also write the trained model to this directory, in bfloat16")
    sub.add_argument("--save-every", type=positive_int, default=100, metavar="N",
                     help="save a checkpoint every N steps (%(default)s)")


def run(args):
    if args.lora and not args.source:
        raise ValueError("--lora needs a model to adapt: pass it with --from")
    ops = get_backend(args.backend)
    make_config, recipe = PRESETS[args.preset]
    overrides = {name: getattr(args, name) for name in ("steps", "seed", "optimizer", "lr", "lora", "teacher",
                                                        "source")}
    overrides["grad_accum_steps"] = args.grad_accum
    overrides["distill_weight"] = args.distill_weight and tuple(args.distill_weight)
    recipe = replace(recipe, **{name: value for name, value in overrides.items() if value is not None})
    source, teacher = (tinyscout.load(name, dtype="float32") if name else None for name in (args.source, args.teacher))
    config = source.config if source else make_config()
    corpus = load_corpus(args.text) if recipe.text_tokens_per_step else None
    out = Path(args.out or f"runs/{args.preset}").expanduser()
    console = make_console()
    counts = count_parameters(config)
    console.print(f"{counts.total:,} parameters, {counts.active:,} active per token; {recipe.steps:,} steps")
    checkpoint = train(out, recipe, config, corpus, ops, source, teacher, args.save_every)
    console.print(f"Trained: {checkpoint}")
    if args.export:
        tinyscout.save(tinyscout.load(checkpoint), args.export, "bfloat16")
        shutil.copy(out / "recipe.json", Path(args.export).expanduser())
        console.print(f"Exported: {args.export}")
