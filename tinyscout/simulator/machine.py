"""A GPU in NumPy: all threads of a launch execute together, one instruction after another.

Threads that a branch separates continue as groups.  The group at the lowest instruction runs first, so that groups
reconverge.
"""
from functools import cached_property
from typing import Any

import numpy as np

from tinyscout.simulator.async_copy import AsyncCopies
from tinyscout.simulator.control import STOP
from tinyscout.simulator.operands import special_registers
from tinyscout.simulator.ptx import Fault
from tinyscout.simulator.races import EpochClock

END = 1 << 40                   # a position after every instruction


class ThreadGroup:
    """Threads that are at the same instruction.

    mask: over all threads; threads: their ids, or None for all; count: how many
    waiting_for: "" if it can run; else "lanes" of its warps, "barrier" of its block, or "count" of a named barrier
    """

    def __init__(self, mask, pc=0):
        self.mask, self.pc, self.waiting_for = mask, pc, ""
        self.count = int(np.count_nonzero(mask))

    @cached_property
    def threads(self) -> Any:
        return None if self.count == len(self.mask) else np.flatnonzero(self.mask)

    def where(self, condition):
        return ThreadGroup(self.mask & condition, self.pc)


class UniversalSet:
    """A set that contains everything."""

    def __contains__(self, _):
        return True


class Machine:
    """The state of a launch.  A register is an array over all threads, or one number while all of them agree.

    Thread ids go block by block, and each block has whole warps: lanes beyond its last thread are never alive.
    An instruction computes for all threads, because NumPy is fastest on whole arrays.  `kept_registers` has the
    registers that only threads of the running group may write, because other threads will still read them::

        @%p1 bra $else;         // threads 16 to 31 jump, and wait at $else; threads 0 to 15 run on
        mov.f32 %f1, 1.0;       // if an instruction from $else on reads %f1, it is kept: threads 0 to 15 get 1.0
        mov.f32 %f2, 2.0;       // if none reads %f2, it is not kept: all 32 threads get 2.0, a single number

    While an instruction with a predicate runs, the excluded threads continue right after it with all their registers,
    so all registers are kept: a UniversalSet.
    """

    all_registers = UniversalSet()

    def __init__(self, program, grid, block, profile):
        self.program, self.grid, self.block, self.profile = program, grid, block, profile
        block_threads, self.block_count = (int(np.prod(size)) for size in (block, grid))
        self.block_stride = -(-block_threads // 32) * 32        # thread ids from one block to the next
        self.size = self.block_count * self.block_stride
        self.thread_ids = np.arange(self.size)
        self.alive_mask = self.thread_ids % self.block_stride < block_threads
        self.alive_count = block_threads * self.block_count
        self.registers = list(program.zeros)
        self.groups = [ThreadGroup(self.alive_mask.copy())]     # all but the one that runs, `group`
        self.kept_registers: Any = frozenset()
        self.arrays: dict = {}                                  # {argument: (region, address)}, see allocate_memory
        self.shared: Any = None
        self.local: Any = None
        self.pointer_regions: dict = {}                         # {pc: region of its address, or None if unknown}
        self.clock, self.copies = EpochClock(self.block_count, self.block_stride), AsyncCopies(self.size)
        self.sync_epoch: int | None = 0                         # of the last barrier that all alive threads passed
        self.arrivals: dict = {}                                # {(block, named barrier): (threads, waiting groups)}
        self.special = dict(special_registers(grid, block))

    def run(self, max_instructions):
        """Run until every thread has ended.  Raises Fault."""
        steps = self.program.steps
        if self.profile:
            steps = [self.profile.count_step(step, instruction) for step, instruction in
                     zip(steps, self.program.kernel.instructions, strict=True)]
        while self.groups:
            pc = self.choose_group()
            stop = self.next_stop(pc)
            while pc < stop:
                next_pc = steps[pc](self)
                max_instructions -= 1
                if next_pc is None:
                    pc += 1
                elif next_pc == STOP:
                    break
                else:
                    if max_instructions < 0:
                        self.fault(self.program.kernel.instructions[pc], self.first_active_thread(),
                                   "exceeded the instruction limit: is this loop infinite?")
                    pc, stop = next_pc, self.next_stop(next_pc)
            else:
                self.diverge([(self.group, pc)])

    def choose_group(self):
        """Merge all groups at the lowest instruction into the one that runs  ->  its position"""
        ready = [group.pc for group in self.groups if not group.waiting_for]
        if not ready:
            self.report_deadlock()
        pc = min(ready)
        merging = [group for group in self.groups if group.pc == pc and group.waiting_for != "count"]
        self.groups = [group for group in self.groups if group not in merging]
        masks = [group.mask for group in merging]
        self.group = merging[0] if len(merging) == 1 else ThreadGroup(np.logical_or.reduce(masks), pc)
        self.group.waiting_for = ""
        self.update_kept_registers()
        return pc

    def update_kept_registers(self):
        """Keep the registers that are live where other groups are."""
        self.kept_registers = self.program.liveness.live_in(frozenset(group.pc for group in self.groups))

    def next_stop(self, pc):
        """Return the position at which the running group meets another one or must let it run first."""
        return min((group.pc for group in self.groups if not group.waiting_for or group.pc >= pc), default=END)

    def diverge(self, groups):
        """Continue in groups, [(group, position)]; a group at an exit ends immediately  ->  STOP."""
        for group, pc in groups:
            group.pc = pc
            if self.program.is_exit[pc]:
                self.finish(group)
            else:
                self.groups.append(group)
        return STOP

    def write_register(self, index, value):
        """Write a register of the running threads."""
        if index in self.kept_registers:
            old = self.registers[index]
            value = np.where(self.group.mask, value, old if old.dtype == value.dtype else old.view(value.dtype))
        self.registers[index] = value

    def broadcast(self, value):
        return np.broadcast_to(value, self.thread_ids.shape)

    def scatter(self, values, threads, out=None):
        """Expand the values of some threads to an array over all; a single number for all threads stays a number."""
        if threads is None or (values.ndim == 0 and out is None):
            return values
        out = np.zeros(self.size, values.dtype) if out is None else out
        out[threads] = values
        return out

    def region(self, instruction, space):
        """Return the region that an instruction accesses if it is known without the addresses, or None."""
        if space == "shared":
            return self.shared
        if space == "local":
            return self.local
        if instruction.pc not in self.pointer_regions:
            mask = self.program.liveness.pointers[instruction.pc]
            candidates = [region for n, (region, _) in self.arrays.items() if mask >> n & 1]
            self.pointer_regions[instruction.pc] = candidates[0] if space == "global" and len(candidates) == 1 else None
        return self.pointer_regions[instruction.pc]

    # Waiting

    def wait(self, instruction, waiting_for="lanes"):
        """Let the running group wait at an instruction  ->  STOP"""
        self.group.pc, self.group.waiting_for = instruction.pc, waiting_for
        self.groups.append(self.group)
        return STOP

    def are_warps_converged(self, needed):
        """True if each warp of the running group has all of its needed lanes (warps, 32) in the group."""
        active = self.group.mask.reshape(-1, 32)
        return not (needed & ~active & active.any(1)[:, None]).any()

    def blocks_of(self, mask):
        return mask.reshape(self.block_count, -1).any(1)

    def pass_barrier(self, instruction):
        """Let complete blocks pass a barrier, and the threads of others wait  ->  True if any block passes."""
        if self.group.count < self.alive_count:
            active, alive = (mask.reshape(self.block_count, -1).sum(1) for mask in (self.group.mask, self.alive_mask))
            incomplete = (active > 0) & (active < alive)
            if incomplete.any():
                for other in self.groups:
                    if other.waiting_for == "barrier" and (blocks := self.blocks_of(other.mask) & incomplete).any():
                        self.report_divergence(other, self.group, blocks, f"waits at {instruction.location}")
                passing = self.group.where(~np.repeat(incomplete, self.block_stride))
                self.group = self.group.where(np.repeat(incomplete, self.block_stride))
                self.wait(instruction, "barrier")
                self.group = passing
                self.update_kept_registers()
        if self.group.count:
            self.clock.block_barrier(self.blocks_of(self.group.mask))
            self.sync_epoch = self.clock.now if self.group.count == self.alive_count else None
            if self.sync_epoch is not None:
                self.shared.shadow.forget_reads()
        return self.group.count > 0

    def last_sync_epoch(self):
        """The earliest epoch at which one of the running group's blocks passed its last barrier."""
        if self.sync_epoch is not None:
            return self.sync_epoch
        return int(self.clock.block_epochs[self.blocks_of(self.group.mask)].min())

    def pass_named_barrier(self, instruction, name, count, arrives):
        """A barrier for `count` threads of a block: the last to arrive release the waiting ones  ->  STOP."""
        if count % 32 or not count:
            self.fault(instruction, self.first_active_thread(),
                       f"a barrier of {count} threads, which is not a multiple of 32")
        group = self.group
        for block in np.flatnonzero(self.blocks_of(group.mask)):
            block_group = group.where(self.thread_ids // self.block_stride == block)
            arrived, waiting = self.arrivals.pop((block, name), (0, []))
            arrived += 32 * int(block_group.mask.reshape(-1, 32).any(1).sum())
            is_complete = arrived >= count
            if is_complete:
                for other in waiting:
                    other.waiting_for, other.pc = "", other.pc + 1
                self.clock.block_barrier([block])
                self.sync_epoch = None
            else:
                self.arrivals[block, name] = arrived, waiting if arrives else [*waiting, block_group]
            goes_on = is_complete or arrives
            self.diverge([(block_group, instruction.pc + 1 if goes_on else instruction.pc)])
            block_group.waiting_for = "" if goes_on else "count"
        return STOP

    def finish(self, group):
        """End the threads of a group."""
        for other in self.groups:
            if other.waiting_for == "barrier" and (
                    blocks := self.blocks_of(other.mask) & self.blocks_of(group.mask)).any():
                self.report_divergence(other, group, blocks, "has ended")
            if other.waiting_for == "lanes":
                other.waiting_for = ""
        self.alive_mask &= ~group.mask
        self.alive_count -= group.count

    # Faults

    def fault(self, instruction, thread, text):
        raise Fault(f"{instruction.location}: {self.format_thread(thread, 'block {1} thread {0}')}: {text}")

    def format_thread(self, thread, form="thread {0} of block {1}"):
        """A thread as CUDA names it."""
        return form.format(format_dim3(thread % self.block_stride, self.block),
                           format_dim3(thread // self.block_stride, self.grid))

    def first_active_thread(self):
        return 0 if self.group.threads is None else self.group.threads[0]

    def block_of(self, thread):
        return thread // self.block_stride

    def instruction(self, group):
        return self.program.kernel.instructions[group.pc]

    def report_divergence(self, waiting, other, blocks, does):
        """Raise Fault: threads wait at a barrier that others of their block will not reach."""
        waiting_thread, other_thread = (np.flatnonzero(group.mask & np.repeat(blocks, self.block_stride))[0]
                                        for group in (waiting, other))
        self.fault(self.instruction(waiting), waiting_thread,
                   "divergent barrier: waits here for all threads of its block, but "
                   f"{self.format_thread(other_thread)} {does}")

    def report_deadlock(self):
        """Raise Fault: all groups of the launch wait."""
        threads = [np.flatnonzero(group.mask)[0] for group in self.groups]
        reasons = [f"{group.count} threads, the first {self.format_thread(thread)}, "
                   f"wait at {self.instruction(group).location}"
                   for group, thread in zip(self.groups, threads, strict=True)]
        self.fault(self.instruction(self.groups[0]), threads[0], f"deadlock: all threads wait: {'; '.join(reasons)}")


def format_dim3(index, sizes):
    """A position in a grid or a block of these sizes as (x, y, z)."""
    x, y, _ = sizes
    return f"({index % x}, {index // x % y}, {index // (x * y)})"
