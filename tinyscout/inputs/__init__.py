"""What the model is given: text as tokens, conversations as prompts, images as tiles."""
