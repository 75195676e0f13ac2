"""Inputs of the model: text as tokens, conversations as prompts, images as tiles."""
