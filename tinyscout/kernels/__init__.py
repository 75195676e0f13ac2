"""How it gets fast: each module here is the reference with some of its names replaced."""
