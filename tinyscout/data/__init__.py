"""What a small model learns from, made where it is trained: nothing is downloaded.

corpus              text that every Python has
scenes              images that are drawn
scene_questions     what is asked about one of them;  pair_questions  about two;  dialogs  conversations about them
patch_labels        what each patch of an image shows
needles             facts planted in long text, and asked for
"""
