"""How fast: whole models, single operations and the tokenizer, ours beside others, in one run on one machine.

Machines are noisy, so nothing is compared across runs: the contenders take turns, sample by sample, and a disturbance
meets them all.  Each part is a file with measure(...), which gives a dict for json, and show(report, console).
"""
