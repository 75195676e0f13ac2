"""Decode instructions into steps, and the steps of control flow: branches, barriers, exits.

A step is a function of the machine that executes one instruction for the running group of threads.
"""
import numpy as np

from tinyscout.simulator import arithmetic, async_copy, bits, compare, convert, memory, registry, warp
from tinyscout.simulator.operands import make_reader

PER_THREAD = (arithmetic, bits, compare, convert)       # importing these fills registry.BUILDERS
STOP = -1                                               # returned by a step after which another group runs


def decode(instruction, kernel):
    """Return the step of an instruction.  Raises Fault for an unknown one.

    A step returns None to continue with the next instruction, the position of another one, or STOP.
    """
    if instruction.opcode in ("bra", "brx"):
        return (branch if instruction.opcode == "bra" else switch)(instruction, kernel)
    for key in (*(f"{instruction.opcode}.{modifier}" for modifier in instruction.modifiers), instruction.opcode):
        for builders in (BUILDERS, warp.BUILDERS, async_copy.BUILDERS, memory.BUILDERS, registry.BUILDERS):
            if key in builders:
                return apply_predicate(builders[key](instruction), instruction)
    raise registry.unknown_instruction(instruction)


def apply_predicate(step, instruction):
    """@%p: execute the step only for threads whose predicate is true."""
    if instruction.predicate is None or instruction.opcode in ("ret", "exit"):
        return step
    read_predicate = make_reader(instruction.predicate, "pred")

    def predicated_step(m):
        enabled = read_predicate(m)
        if enabled.ndim == 0:
            return step(m) if enabled else None
        outer, outer_kept, inner = m.group, m.kept_registers, m.group.where(enabled)
        if inner.count in (0, outer.count):
            return step(m) if inner.count else None
        m.group, m.kept_registers = inner, m.all_registers
        if (next_pc := step(m)) == STOP:
            return m.diverge([(outer.where(~enabled), instruction.pc + 1)])
        m.group, m.kept_registers = outer, outer_kept
        return next_pc
    return predicated_step


def branch(instruction, kernel):
    """bra: jump to a label; if only some threads jump, the group diverges."""
    target = kernel.labels[instruction.operands[-1]]
    if instruction.predicate is None:
        return lambda m: target
    read_predicate = make_reader(instruction.predicate, "pred")

    def step(m):
        taken = read_predicate(m)
        if taken.ndim == 0:
            return target if taken else None
        jumping = m.group.where(taken)
        if jumping.count == 0:
            return None
        if jumping.count == m.group.count:
            return target
        return m.diverge([(jumping, target), (m.group.where(~taken), instruction.pc + 1)])
    return step


def switch(instruction, kernel):
    """brx.idx: jump to one of several labels."""
    targets = [kernel.labels[label] for label in kernel.labels[instruction.operands[-1]]]
    read_index = make_reader(instruction.operands[0], "u32")

    def step(m):
        index = m.broadcast(read_index(m))
        groups = [(m.group.where(index == n), target) for n, target in enumerate(targets)]
        return m.diverge([(group, target) for group, target in groups if group.count])
    return step


def end(instruction):
    """ret, exit: the threads end."""
    read_predicate = make_reader(instruction.predicate, "pred") if instruction.predicate else lambda m: np.True_

    def step(m):
        remaining = m.group.where(~read_predicate(m))
        m.finish(m.group.where(read_predicate(m)))
        return m.diverge([(remaining, instruction.pc + 1)] if remaining.count else [])
    return step


def call(instruction):
    """Call of a function that is not in the module: a failed assertion, or an unsupported function."""
    callee = instruction.modifiers[0]
    text = "assertion failed" if "assert" in callee else f"calls {callee}, which the simulator does not know"
    return lambda m: m.fault(instruction, m.first_active_thread(), text)


def trap(instruction):
    return lambda m: m.fault(instruction, m.first_active_thread(), "trap")


def do_nothing(instruction):
    """Instructions without effect here: fences, because memory is always up to date; prefetches; sleep."""
    return lambda m: None


def barrier(instruction):
    """bar.sync: wait for all threads of the block, or for some number of threads; bar.arrive: do not wait.

    bar.red: also reduce a predicate over the block: popc, and, or.
    """
    reduces = "red" in instruction.modifiers
    operands = instruction.operands[1:] if reduces else instruction.operands
    reduction = [modifier for modifier in instruction.modifiers
                 if modifier not in ("sync", "arrive", "aligned", "cta", "red")]
    read_predicate = make_reader(operands[-1], "pred") if reduces else lambda m: None
    reads = [make_reader(operand, "u32", instruction.location)
             for operand in (operands[:-1] if reduces else operands)]

    def step(m):
        if len(reads) > 1:
            name, count = (int(m.broadcast(read(m))[m.first_active_thread()]) for read in reads)
            return m.pass_named_barrier(instruction, name, count, "arrive" in instruction.modifiers)
        if not m.pass_barrier(instruction):
            return STOP
        if reduces:
            yes, alive = (mask.reshape(m.block_count, -1)
                          for mask in (m.broadcast(read_predicate(m)) & m.group.mask, m.alive_mask))
            result = {"popc": yes.sum(1, dtype=np.uint32), "or": yes.any(1), "and": (yes | ~alive).all(1)}[reduction[0]]
            m.write_register(instruction.operands[0].number, np.repeat(result, m.block_stride))
        return None
    return step


BUILDERS = {"ret": end, "exit": end, "call": call, "trap": trap, "brkpt": trap, "bar": barrier, "barrier": barrier,
            **dict.fromkeys(["membar", "fence", "prefetch", "prefetchu", "nanosleep"], do_nothing)}
