"""Benchmarks: whole models, single operations, training and the tokenizer, compared with other engines in one run.

Machines are noisy, so nothing is compared across runs: the engines take turns, sample by sample, and a disturbance
affects them all.  Each part is a file with measure(...), which returns a dict for json, and show(report, console).
"""
