"""What Hypothesis does with a law: draw, compute twice, compare, and shrink what breaks it."""
from drawings import Canvas

TRUTH, KERNEL, BROKEN = 2, 1, 4     # tints


def draw():
    canvas = Canvas(640, 330, "A loop: draw an input, compute the truth and your kernel's result, compare; if they "
                    "differ, shrink the input")
    canvas.rect(2, 90, 130, 60, "draw\nan input", kind="strong")
    canvas.rect(190, 40, 170, 60, "your kernel\nfloat32", KERNEL).rect(190, 140, 170, 60, "reference\nfloat64", TRUTH)
    canvas.rect(430, 90, 170, 60, "compare:\n|error| ≤ bound?", kind="strong")
    canvas.arrow((132, 112), (186, 76)).arrow((132, 128), (186, 164))
    canvas.arrow((360, 76), (426, 112)).arrow((360, 164), (426, 128))
    canvas.line((515, 90), (515, 16), (67, 16)).arrow((67, 16), (67, 86))
    canvas.text(505, 34, "it holds: draw the next, up to 100", "note", "end")
    canvas.arrow((515, 150), (515, 236)).text(525, 196, "it is broken", "note")
    canvas.rect(430, 240, 170, 60, "shrink:\na simpler input", BROKEN)
    canvas.line((430, 256), (67, 256)).arrow((67, 256), (67, 154)).text(77, 248, "try that one too", "note")
    canvas.arrow((430, 284), (340, 284))
    return canvas.text(332, 288, "report the simplest that still breaks it", "note", "end")
