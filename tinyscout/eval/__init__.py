"""What a model can do, measured: the exam, needles in long texts, nats a token, and baselines."""
