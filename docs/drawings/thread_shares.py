"""Two threads and one matrix: halves, and claims, if thread 1 is interrupted."""
from drawings import Canvas

CLAIMS, PAUSE = 12, (2, 6)          # claims of the whole matrix; when thread 1 is interrupted, in claims of time
LEFT, STEP, BAR = 84, 38, 30        # pixels
TINTS = (2, 1)                      # of the two threads


def run_halves():
    """[(thread, begin, end)], and when each one has finished."""
    half = CLAIMS / 2
    return [(0, 0, half), (1, 0, PAUSE[0]), (1, PAUSE[1], PAUSE[1] + half - PAUSE[0])]


def run_claims():
    """The same with claims: whoever is free takes the next one."""
    pieces, free = [], [0.0, 0.0]
    for _ in range(CLAIMS):
        thread = 0 if free[0] <= free[1] else 1
        pieces.append((thread, free[thread], free[thread] + 1))
        free[thread] += 1
        if thread == 1 and free[1] == PAUSE[0]:
            free[1] = PAUSE[1]
    return pieces


def draw_run(canvas, top, title, pieces):
    canvas.text(2, top, title, "title")
    for thread in range(2):
        y = top + 14 + thread * (BAR + 8)
        canvas.text(2, y + 20, f"thread {thread}", "note")
        canvas.rect(LEFT + PAUSE[0] * STEP, y, (PAUSE[1] - PAUSE[0]) * STEP, BAR, "interrupted",
                    kind="ghost") if thread else None
        for owner, begin, end in pieces:
            if owner == thread:
                canvas.rect(LEFT + begin * STEP, y, (end - begin) * STEP, BAR, tint=TINTS[thread], radius=2)
    end = LEFT + max(end for _, _, end in pieces) * STEP
    canvas.line((end, top - 12), (end, top + 96), kind="dashed")
    return canvas.text(end - 6, top, "finished", "note", "end")


def draw():
    last = max(end for _, _, end in run_halves())
    canvas = Canvas(LEFT + last * STEP + 8, 266, "With halves, everything waits for the interrupted thread; with "
                    "claims the other thread does more")
    draw_run(canvas, 20, "half of the outputs for each", run_halves())
    draw_run(canvas, 142, "claims", run_claims())
    return canvas.arrow((LEFT, 256), (LEFT + last * STEP, 256)).text(2, 260, "time", "note")
