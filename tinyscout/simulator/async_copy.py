"""cp.async: copies from global to shared memory, which are complete only when a thread has waited for them."""
import numpy as np

from tinyscout.simulator.memory import Access
from tinyscout.simulator.operands import make_reader
from tinyscout.simulator.ptx import Immediate
from tinyscout.simulator.registry import unknown_instruction


def copy_async(instruction):
    """cp.async: copy from global to shared memory, complete after the wait; bytes past the source's size are zero."""
    if instruction.modifiers[:2] == ("async", "commit_group"):
        return lambda m: m.copies.commit(m)
    if instruction.modifiers[:2] in (("async", "wait_group"), ("async", "wait_all")):
        max_pending = instruction.operands[0].bits if instruction.operands else None
        return lambda m: m.copies.wait(m, max_pending)
    is_known = instruction.modifiers[:2] in (("async", "ca"), ("async", "cg"))
    if not is_known or not isinstance(instruction.operands[2], Immediate):
        raise unknown_instruction(instruction)
    size = instruction.operands[2].bits
    target = Access(instruction, instruction.operands[0], size, "writes", "shared")
    source = Access(instruction, instruction.operands[1], size, "reads", "global")
    read_source_size = make_reader(instruction.operands[3 if len(instruction.operands) > 3 else 2], "u32",
                                   instruction.location)

    def step(m):
        if (read_source_size(m) > size).any():
            m.fault(instruction, m.first_active_thread(), f"an asynchronous copy of more than {size} bytes")
        source_size = m.broadcast(read_source_size(m))
        data = np.zeros((m.size, size), np.uint8)
        if (copying := m.group.where(source_size > 0)).count:
            for region, threads, position in source.record(m, copying):
                threads = m.thread_ids if threads is None else threads
                data[threads] = region.data[np.broadcast_to(position, threads.shape)[:, None] + np.arange(size)]
        data[np.arange(size) >= source_size[:, None]] = 0
        [(region, threads, position)] = target.record(m)
        threads = m.thread_ids if threads is None else threads
        m.copies.begin(instruction, region, threads, np.broadcast_to(position, threads.shape), data[threads])
    return step


class AsyncCopies:
    """The pending asynchronous copies, and the number of groups of copies that each thread has committed."""

    def __init__(self, size):
        self.commits, self.pending = np.zeros(size, np.int32), []

    def begin(self, instruction, region, threads, position, data):
        region.data[position[:, None] + np.arange(data.shape[1])] = 255
        region.shadow.mark_filling(position, data.shape[1], True)
        self.pending.append((instruction, region, threads, position, data, self.commits[threads]))

    def commit(self, m):
        self.commits[m.group.mask] += 1

    def wait(self, m, max_pending):
        """Complete the copies of the active threads: all, or all but the last max_pending committed groups."""
        pending = []
        for instruction, region, threads, position, data, group in self.pending:
            done = m.group.mask[threads]
            if max_pending is not None:
                done = done & (group < self.commits[threads] - max_pending)
            if done.any():
                region.data[position[done, None] + np.arange(data.shape[1])] = data[done]
                region.shadow.mark_filling(position[done], data.shape[1], False)
                region.shadow.check_access(m, instruction, "writes", position[done], data.shape[1], threads[done])
            if not done.all():
                pending.append((instruction, region, *(column[~done] for column in (threads, position, data, group))))
        self.pending = pending


BUILDERS = {"cp": copy_async}
