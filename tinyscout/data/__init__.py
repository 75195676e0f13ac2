"""Training data for a small model, generated on the spot: nothing is downloaded.

corpus              text that every Python installation has
scenes              generated images
scene_questions     questions about one image;  pair_questions  about two;  dialogs  conversations about them
patch_labels        labels for each patch of an image
needles             facts planted in long text, and queries for them
"""
