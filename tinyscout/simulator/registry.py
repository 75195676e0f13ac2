"""The table of instructions that compute each thread's result from its own numbers, and how one is entered."""
import numpy as np

from tinyscout.simulator.operands import WIDE, elementwise
from tinyscout.simulator.ptx import Fault

TABLE: dict = {}
DIRECTIONS = {"rm": lambda x: np.full(x.shape, -np.inf), "rp": lambda x: np.full(x.shape, np.inf),
              "rz": lambda x: np.where(x > 0, -np.inf, np.inf)}         # where a number that is cut off may move to
SMALLEST = np.finfo(np.float32).tiny


def register_instruction(opcode, signature="T T T", words=""):
    """Enter a function of numbers into the table.

    signature: the types of the result and of the operands, T the instruction's own, W twice as wide
    words: what may follow the opcode and changes nothing here
    """
    def enter(function):
        def build(line):
            rest = set(line.modifiers) - {*opcode.split("."), *words.split(), "ftz", "sat"}
            rest -= {*DIRECTIONS} if opcode in ("add", "mul", "fma") and line.kind == "f32" else set()
            if rest:
                raise unknown(line)
            known = {"T": line.kind, "W": WIDE.get(line.kind)}
            kinds = [known.get(kind, kind) for kind in signature.split()]
            compute = round_directed(opcode, line, function)
            compute = flush_denormals(compute) if "ftz" in line.modifiers and line.kind == "f32" else compute
            return elementwise(line, saturate(compute, line) if "sat" in line.modifiers else compute, *kinds)
        TABLE[opcode] = build
        return function
    return enter


def register_builder(opcode):
    """Enter a function from the instruction itself to its step."""
    def enter(build):
        TABLE[opcode] = build
        return build
    return enter


def unknown(line):
    return Fault(f"{line.place}: the simulator does not know the PTX instruction {line}")


def round_directed(opcode, line, function):
    """.rm, .rp and .rz: float32 rounded down, up, or toward zero."""
    direction = next((DIRECTIONS[word] for word in line.modifiers if word in DIRECTIONS), None)
    if direction is None:
        return function

    def rounded(x, y, z=0.0):
        x, y, z = (np.asarray(number, np.float64) for number in (x, y, z))
        product = x if opcode == "add" else x * y                      # exact in float64
        z = y if opcode == "add" else z
        total = product + z
        back = total - product
        rest = (product - (total - back)) + (z - back)                  # what the sum has lost
        near = total.astype(np.float32)
        toward = np.where(np.isfinite(total), direction(total), near).astype(np.float32)
        passed = np.where(toward < near, (near > total) | ((near == total) & (rest < 0)),
                          (near < total) | ((near == total) & (rest > 0)))
        return np.where(passed & np.isfinite(total), np.nextafter(near, toward), near)[()]
    return rounded


def saturate(function, line):
    """.sat: floats are cut to [0, 1], NaN to 0."""
    if line.kind[0] != "f" and line.kind not in ("bf16", "bf16x2"):
        raise unknown(line)

    def cut(*values):
        result = function(*values)
        return np.where(result > 0, np.minimum(result, result.dtype.type(1)), result.dtype.type(0))[()]
    return cut


def flush_denormals(function):
    """.ftz: float32 numbers below the smallest normal one count as zero."""
    def flush(x):
        return np.where(np.abs(x) < SMALLEST, np.copysign(np.float32(0), x), x)[()] if x.dtype == np.float32 else x
    return lambda *values: flush(function(*(flush(value) for value in values)))
