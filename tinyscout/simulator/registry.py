"""The table of instructions that compute each thread's result from its own operands, and how to register one."""
import numpy as np

from tinyscout.simulator.operands import WIDE_TYPES, elementwise
from tinyscout.simulator.ptx import Fault

BUILDERS: dict = {}             # {"add" or "mul.wide": function from an Instruction to its step}
DIRECTIONS = {"rm": lambda x: np.full(x.shape, -np.inf), "rp": lambda x: np.full(x.shape, np.inf),
              "rz": lambda x: np.where(x > 0, -np.inf, np.inf)}     # the infinity that each mode rounds toward
MIN_NORMAL = np.finfo(np.float32).tiny


def register_instruction(opcode, signature="T T T", ignored=""):
    """Register a function of numbers as an instruction.

    signature: the types of the result and of the operands, T the instruction's own, W twice as wide
    ignored: modifiers that may follow the opcode and change nothing here
    """
    def enter(function):
        def build(instruction):
            is_f32 = instruction.type == "f32"
            unknown = set(instruction.modifiers) - {*opcode.split("."), *ignored.split(), "ftz", "sat"}
            unknown -= {*DIRECTIONS} if opcode in ("add", "mul", "fma") and is_f32 else set()
            if unknown:
                raise unknown_instruction(instruction)
            variables = {"T": instruction.type, "W": WIDE_TYPES.get(instruction.type)}
            types = [variables.get(name, name) for name in signature.split()]
            compute = round_directed(opcode, instruction, function)
            compute = flush_denormals(compute) if "ftz" in instruction.modifiers and is_f32 else compute
            compute = saturate(compute, instruction) if "sat" in instruction.modifiers else compute
            return elementwise(instruction, compute, *types)
        BUILDERS[opcode] = build
        return function
    return enter


def register_builder(opcode):
    """Register a function from the instruction to its step."""
    def enter(build):
        BUILDERS[opcode] = build
        return build
    return enter


def unknown_instruction(instruction):
    return Fault(f"{instruction.location}: the simulator does not know the PTX instruction {instruction}")


def round_directed(opcode, instruction, function):
    """.rm, .rp and .rz: float32 rounded down, up, or toward zero."""
    direction = next((DIRECTIONS[modifier] for modifier in instruction.modifiers if modifier in DIRECTIONS), None)
    if direction is None:
        return function

    def compute(x, y, z=0.0):
        x, y, z = (np.asarray(number, np.float64) for number in (x, y, z))
        product = x if opcode == "add" else x * y                       # exact in float64
        z = y if opcode == "add" else z
        total = product + z
        z_rounded = total - product
        error = (product - (total - z_rounded)) + (z - z_rounded)       # TwoSum: rounding error of the sum
        nearest = total.astype(np.float32)
        bound = np.where(np.isfinite(total), direction(total), nearest).astype(np.float32)
        is_beyond = np.where(bound < nearest, (nearest > total) | ((nearest == total) & (error < 0)),
                             (nearest < total) | ((nearest == total) & (error > 0)))
        return np.where(is_beyond & np.isfinite(total), np.nextafter(nearest, bound), nearest)[()]
    return compute


def saturate(function, instruction):
    """.sat: floats are clamped to [0, 1], NaN becomes 0."""
    if instruction.type[0] != "f" and instruction.type not in ("bf16", "bf16x2"):
        raise unknown_instruction(instruction)

    def compute(*values):
        result = function(*values)
        return np.where(result > 0, np.minimum(result, result.dtype.type(1)), result.dtype.type(0))[()]
    return compute


def flush_denormals(function):
    """.ftz: float32 numbers below the smallest normal one count as zero."""
    def flush(x):
        return np.where(np.abs(x) < MIN_NORMAL, np.copysign(np.float32(0), x), x)[()] if x.dtype == np.float32 else x
    return lambda *values: flush(function(*(flush(value) for value in values)))
