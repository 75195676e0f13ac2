"""The pipeline of linear_3: three buffers in shared memory; one is multiplied while two are being filled."""
from drawings import Canvas

BUFFERS, STEPS = 3, 6                   # STAGES of linear_3.cu, and steps of its loop; a stage is 64 inputs
COPY, PRODUCT = 2, 1                    # tints
LEFT, STEP, TOP, ROW = 66, 62, 46, 44   # pixels


def draw():
    canvas = Canvas(LEFT + (STEPS + 1) * STEP + 2, TOP + BUFFERS * ROW + 32, "Three buffers over the steps of a loop: "
                    "in each step one buffer is multiplied and the other two are being filled")
    right, bottom = LEFT + (STEPS + 1) * STEP, TOP + BUFFERS * ROW
    canvas.text(2, 18, "step", "note").text(LEFT + STEP / 2, 18, "start", "note", "middle")
    for step in range(STEPS):
        x = LEFT + (step + 1) * STEP
        canvas.text(x + STEP / 2, 18, step, anchor="middle").line((x, 28), (x, bottom), kind="dashed")
    for buffer in range(BUFFERS):
        canvas.text(2, TOP + buffer * ROW + 22, f"buffer {buffer}", "note")
    for stage in range(STEPS + BUFFERS - 1):
        y, x = TOP + stage % BUFFERS * ROW, LEFT + (stage + 1) * STEP
        begin = max(LEFT, x - (BUFFERS - 1) * STEP)
        if begin < right and stage < STEPS:
            canvas.rect(begin + 2, y, x - begin - 4, 34, f"copy {stage}", COPY)
            canvas.rect(x + 2, y, STEP - 4, 34, f"mma {stage}", PRODUCT)
    return canvas.text(LEFT + STEP, bottom + 20, "each dashed line: wait for the oldest copy, then a barrier", "note")
