"""Instructions that decide what comes next: branches, barriers, the end; and which step belongs to an instruction."""
import numpy as np

from tinyscout.simulator import arithmetic, bits, compare, convert, memory, registry, warp
from tinyscout.simulator.operands import make_reader

PER_THREAD = (arithmetic, bits, compare, convert)       # these have entered their instructions into registry.TABLE
STOP = -1                                               # no step of this group comes next: another one's turn


def decode(instruction, kernel):
    """The function of the machine that does what an instruction says.  Raises Fault for one that is not known.

    It gives None where the next instruction follows, the position of another one, or STOP.
    """
    if instruction.name in ("bra", "brx"):
        return (branch if instruction.name == "bra" else switch)(instruction, kernel)
    for key in (*(f"{instruction.name}.{word}" for word in instruction.modifiers), instruction.name):
        for known in (TABLE, warp.TABLE, memory.TABLE, registry.TABLE):
            if key in known:
                return apply_predicate(known[key](instruction), instruction)
    raise registry.unknown_instruction(instruction)


def apply_predicate(step, instruction):
    """@%p: only the threads whose predicate holds."""
    if instruction.predicate is None or instruction.name in ("ret", "exit"):
        return step
    holds = make_reader(instruction.predicate, "pred")

    def guarded_step(m):
        yes = holds(m)
        if yes.ndim == 0:
            return step(m) if yes else None
        outer, kept, inner = m.group, m.kept_registers, m.group.where(yes)
        if inner.count in (0, outer.count):
            return step(m) if inner.count else None
        m.group, m.kept_registers = inner, m.all_registers
        if (to := step(m)) == STOP:
            return m.diverge([(outer.where(~yes), instruction.pc + 1)])
        m.group, m.kept_registers = outer, kept
        return to
    return guarded_step


def branch(instruction, kernel):
    """bra: to a label; where only some threads go there, the group parts."""
    target = kernel.labels[instruction.operands[-1]]
    if instruction.predicate is None:
        return lambda m: target
    holds = make_reader(instruction.predicate, "pred")

    def step(m):
        yes = holds(m)
        if yes.ndim == 0:
            return target if yes else None
        going = m.group.where(yes)
        if going.count == 0:
            return None
        if going.count == m.group.count:
            return target
        return m.diverge([(going, target), (m.group.where(~yes), instruction.pc + 1)])
    return step


def switch(instruction, kernel):
    """brx.idx: to one of several labels."""
    targets = [kernel.labels[label] for label in kernel.labels[instruction.operands[-1]]]
    read = make_reader(instruction.operands[0], "u32")

    def step(m):
        which = np.broadcast_to(read(m), m.all_threads_mask.shape)
        groups = [(m.group.where(which == n), target) for n, target in enumerate(targets)]
        return m.diverge([(group, target) for group, target in groups if group.count])
    return step


def end(instruction):
    """ret, exit: the threads are done."""
    holds = make_reader(instruction.predicate, "pred") if instruction.predicate else lambda m: np.True_

    def step(m):
        rest = m.group.where(~holds(m))
        m.finish(m.group.where(holds(m)))
        return m.diverge([(rest, instruction.pc + 1)] if rest.count else [])
    return step


def call(instruction):
    def step(m):
        m.fault(instruction, m.first_active_thread(), "assertion failed" if "assert" in instruction.modifiers[0] else
                f"calls {instruction.modifiers[0]}, which the simulator does not know")
    return step


def trap(instruction):
    return lambda m: m.fault(instruction, m.first_active_thread(), "trap")


def do_nothing(instruction):
    """What has no meaning here: fences, since memory is always up to date; hints to caches; sleep."""
    return lambda m: None


def barrier(instruction):
    """bar.sync: wait for all threads of the block, or for as many as are asked for; bar.arrive: do not wait."""
    words = [word for word in instruction.modifiers if word not in ("sync", "arrive", "aligned", "cta", "red")]
    reduces = "red" in instruction.modifiers
    operands = instruction.operands[1:] if reduces else instruction.operands
    predicate = make_reader(operands[-1], "pred") if reduces else lambda m: None
    operands = [make_reader(operand, "u32", instruction.location)
                for operand in (operands[:-1] if reduces else operands)]

    def step(m):
        if len(operands) > 1:
            name, count = (int(np.broadcast_to(read(m), m.all_threads_mask.shape)[m.first_active_thread()])
                           for read in operands)
            return m.rendezvous(instruction, name, count, "arrive" in instruction.modifiers)
        if not m.pass_barrier(instruction):
            return STOP
        if reduces:
            yes, living = (truth.reshape(m.blocks, -1) for truth in (m.broadcast(predicate(m)) & m.group.mask,
                                                                     m.living))
            found = {"popc": yes.sum(1, dtype=np.uint32), "or": yes.any(1), "and": (yes | ~living).all(1)}[words[0]]
            m.write_register(instruction.operands[0].number, np.repeat(found, m.padded))
        return None
    return step


TABLE = {"ret": end, "exit": end, "call": call, "trap": trap, "brkpt": trap, "bar": barrier, "barrier": barrier,
         **dict.fromkeys(["membar", "fence", "prefetch", "prefetchu", "nanosleep"], do_nothing)}
