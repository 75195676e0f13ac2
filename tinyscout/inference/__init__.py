"""The loops that run a model: generation, very long texts, and weights larger than memory."""
