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
        def build(instruction):
            rest = set(instruction.modifiers) - {*opcode.split("."), *words.split(), "ftz", "sat"}
            rest -= {*DIRECTIONS} if opcode in ("add", "mul", "fma") and instruction.kind == "f32" else set()
            if rest:
                raise unknown_instruction(instruction)
            known = {"T": instruction.kind, "W": WIDE.get(instruction.kind)}
            kinds = [known.get(kind, kind) for kind in signature.split()]
            compute = round_directed(opcode, instruction, function)
            compute = flush_denormals(compute) if "ftz" in instruction.modifiers and instruction.kind == "f32" else compute
            return elementwise(instruction, saturate(compute, instruction) if "sat" in instruction.modifiers
                               else compute, *kinds)
        TABLE[opcode] = build
        return function
    return enter


def register_builder(opcode):
    """Enter a function from the instruction itself to its step."""
    def enter(build):
        TABLE[opcode] = build
        return build
    return enter


def unknown_instruction(instruction):
    return Fault(f"{instruction.location}: the simulator does not know the PTX instruction {instruction}")


def round_directed(opcode, instruction, function):
    """.rm, .rp and .rz: float32 rounded down, up, or toward zero."""
    direction = next((DIRECTIONS[word] for word in instruction.modifiers if word in DIRECTIONS), None)
    if direction is None:
        return function

    def round_number(x, y, z=0.0):
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
    return round_number


def saturate(function, instruction):
    """.sat: floats are cut to [0, 1], NaN to 0."""
    if instruction.kind[0] != "f" and instruction.kind not in ("bf16", "bf16x2"):
        raise unknown_instruction(instruction)

    def clamp(*values):
        result = function(*values)
        return np.where(result > 0, np.minimum(result, result.dtype.type(1)), result.dtype.type(0))[()]
    return clamp


def flush_denormals(function):
    """.ftz: float32 numbers below the smallest normal one count as zero."""
    def flush(x):
        return np.where(np.abs(x) < SMALLEST, np.copysign(np.float32(0), x), x)[()] if x.dtype == np.float32 else x
    return lambda *values: flush(function(*(flush(value) for value in values)))
