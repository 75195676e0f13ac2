"""What a small model learns from, made where it is trained: nothing is downloaded.

corpus     text that every Python has
scenes     pictures that are drawn;  questions  conversations about them
needles    facts planted in long text, and asked for
"""
