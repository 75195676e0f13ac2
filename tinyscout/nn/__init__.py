"""The layers of the model, written once for every backend: weights, cache, text, vision, and both together."""
