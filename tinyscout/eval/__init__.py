"""Evaluation: the exam, needles in long texts, loss by position, and baselines."""
