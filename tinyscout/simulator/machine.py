"""A GPU in NumPy: all threads of a launch at once, one instruction after another.

Threads that a branch parts go on as groups; the group at the lowest instruction goes first, so that groups meet again.
"""
from typing import Any

import numpy as np

from tinyscout.simulator.control import STOP
from tinyscout.simulator.ptx import Fault
from tinyscout.simulator.races import EpochClock
from tinyscout.simulator.warp import AsyncCopies

END = 1 << 40                   # a position behind every instruction


class ThreadGroup:
    """Threads that are at the same instruction.  threads: their numbers, or None for all there are."""

    def __init__(self, mask, pc=0):
        self.mask, self.pc, self.waits = mask, pc, ""
        self.threads: Any = np.flatnonzero(mask)
        self.count = len(self.threads)
        if self.count == len(mask):
            self.threads = None

    def where(self, condition):
        return ThreadGroup(self.mask & condition, self.pc)


class UniversalSet:
    """A set that holds all."""

    def __contains__(self, _):
        return True


class Machine:
    """The state of a launch.  A register is an array over all threads, or one number while all of them agree.

    Threads are numbered block by block, and each block has whole warps: lanes beyond its last thread never live.
    """

    all_registers = UniversalSet()

    def __init__(self, program, grid, block, profile):
        self.program, self.grid, self.block, self.profile = program, grid, block, profile
        threads, self.blocks = (int(np.prod(size)) for size in (block, grid))
        self.padded = -(-threads // 32) * 32
        self.size = self.blocks * self.padded
        self.all_threads_mask = np.arange(self.size)
        self.living = self.all_threads_mask % self.padded < threads
        self.alive = threads * self.blocks
        self.registers = list(program.zeros)
        self.groups = [ThreadGroup(self.living.copy())]
        self.level: int | None = 0
        self.kept_registers: Any = frozenset()
        self.arrays: dict = {}          # {argument: (region, address)}; these four are launch.lay_out's
        self.pointer_regions: dict = {}
        self.shared: Any = None
        self.local: Any = None
        self.clock, self.copies, self.arrivals = EpochClock(self.blocks, self.padded), AsyncCopies(self.size), {}
        self.special = special_registers(grid, block, self.all_threads_mask, self.padded)

    def run(self, limit):
        """Until every thread has ended.  Raises Fault; limit: of instructions, each by a group of threads."""
        steps = self.program.steps
        if self.profile:
            steps = [self.profile.count_step(step, instruction) for step, instruction in
                     zip(steps, self.program.kernel.instructions, strict=True)]
        while self.groups:
            pc = self.choose()
            until = self.next_stop(pc)
            while pc < until:
                next_pc = steps[pc](self)
                limit -= 1
                if next_pc is None:
                    pc += 1
                elif next_pc == STOP:
                    break
                else:
                    if limit < 0:
                        self.fault(self.program.kernel.instructions[pc], self.first_active_thread(),
                                   "runs and runs: is this loop endless?")
                    pc, until = next_pc, self.next_stop(next_pc)
            else:
                self.diverge([(self.group, pc)])

    def choose(self):
        """The group at the lowest instruction becomes the one that runs, with all others that are there  ->  where"""
        running = [group.pc for group in self.groups if not group.waits]
        if not running:
            self.report_deadlock()
        pc = min(running)
        arrived = [group for group in self.groups if group.pc == pc and group.waits != "count"]
        self.groups = [group for group in self.groups if group not in arrived]
        self.group = arrived[0] if len(arrived) == 1 else ThreadGroup(np.logical_or.reduce([group.mask
                                                                                            for group in arrived]),
                                                                      pc)
        self.group.waits = ""
        self.update_live_registers()
        return pc

    def update_live_registers(self):
        """What the threads of other groups still need stays as it is when a register is written."""
        self.kept_registers = self.program.liveness.live_in(frozenset(group.pc for group in self.groups))

    def next_stop(self, pc):
        """Where the group that runs meets another, or has gone so far that it is another's turn."""
        return min((group.pc for group in self.groups if not group.waits or group.pc >= pc), default=END)

    def diverge(self, groups):
        """Go on in groups, each at its position; who has only to end does so at once  ->  STOP"""
        for group, pc in groups:
            group.pc = pc
            if self.program.ends[pc]:
                self.finish(group)
            else:
                self.groups.append(group)
        return STOP

    def write_register(self, index, value):
        """Write a register of the threads that run."""
        if index in self.kept_registers:
            old = self.registers[index]
            value = np.where(self.group.mask, value, old if old.dtype == value.dtype else old.view(value.dtype))
        self.registers[index] = value

    def broadcast(self, value):
        return np.broadcast_to(value, self.all_threads_mask.shape)

    def spread(self, values, threads, old=None):
        """Numbers of some threads as an array over all; one number for all of them stays one."""
        if threads is None or (values.ndim == 0 and old is None):
            return values
        spread = np.zeros(self.size, values.dtype) if old is None else old
        spread[threads] = values
        return spread

    def region(self, instruction, space):
        """The memory that an instruction means, where that is known before its addresses are, or None."""
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

    def block_on(self, instruction, why="lanes"):
        """The group waits at an instruction for others  ->  STOP"""
        self.group.pc, self.group.waits = instruction.pc, why
        self.groups.append(self.group)
        return STOP

    def are_warps_converged(self, instruction, wanted):
        """Are all the lanes (warps, 32) that are wanted here, in warps of which any is here?"""
        active = self.group.mask.reshape(-1, 32)
        return not (wanted & ~active & active.any(1)[:, None]).any()

    def blocks_of(self, mask):
        return mask.reshape(self.blocks, -1).any(1)

    def pass_barrier(self, instruction):
        """Blocks that are complete pass the barrier; are there any?  Of the others, those who are here wait."""
        if self.group.count < self.alive:
            active, total = (mask.reshape(self.blocks, -1).sum(1) for mask in (self.group.mask, self.living))
            torn = (active > 0) & (active < total)
            if torn.any():
                for other in self.groups:
                    if other.waits == "barrier" and (meets := self.blocks_of(other.mask) & torn).any():
                        self.report_divergence(other, self.group, meets, f"waits at {instruction.location}")
                ready = self.group.where(~np.repeat(torn, self.padded))
                self.group = self.group.where(np.repeat(torn, self.padded))
                self.block_on(instruction, "barrier")
                self.group = ready
                self.update_live_registers()
        if self.group.count:
            self.clock.block_barrier(self.blocks_of(self.group.mask))
            self.level = self.clock.now if self.group.count == self.alive else None
            if self.level is not None:
                self.shared.shadow.forget()
        return self.group.count > 0

    def in_step(self):
        """The access to memory since when the blocks of this group have not been in step, at the earliest."""
        return int(self.clock.blocks[self.blocks_of(self.group.mask)].min()) if self.level is None else self.level

    def rendezvous(self, instruction, name, count, arrives):
        """A barrier for a number of threads: those who complete it take along who waited  ->  STOP"""
        if count % 32 or not count:
            self.fault(instruction, self.first_active_thread(),
                       f"a barrier of {count} threads, which is no number of whole warps")
        group = self.group
        for block in np.flatnonzero(self.blocks_of(group.mask)):
            block_group = group.where(self.all_threads_mask // self.padded == block)
            arrived, waiting = self.arrivals.pop((block, name), (0, []))
            arrived += 32 * int(block_group.mask.reshape(-1, 32).any(1).sum())
            if arrived >= count:
                for other in waiting:
                    other.waits, other.pc = "", other.pc + 1
                self.clock.block_barrier([block])
                self.level = None
            else:
                self.arrivals[block, name] = arrived, waiting if arrives else [*waiting, block_group]
            self.diverge([(block_group, instruction.pc + 1 if arrived >= count or arrives else instruction.pc)])
            block_group.waits = "" if arrived >= count or arrives else "count"
        return STOP

    def finish(self, group):
        """Threads end."""
        for other in self.groups:
            if other.waits == "barrier" and (meets := self.blocks_of(other.mask) & self.blocks_of(group.mask)).any():
                self.report_divergence(other, group, meets, "has ended")
            if other.waits == "lanes":
                other.waits = ""
        self.living &= ~group.mask
        self.alive -= group.count

    # Faults

    def fault(self, instruction, thread, text):
        raise Fault(f"{instruction.location}: {self.format_thread(thread, 'block {1} thread {0}')}: {text}")

    def format_thread(self, number, form="thread {0} of block {1}"):
        """A thread as CUDA names it."""
        return form.format(format_axes(number % self.padded, self.block), format_axes(number // self.padded, self.grid))

    def first_active_thread(self):
        return 0 if self.group.threads is None else self.group.threads[0]

    def block_of(self, thread):
        return thread // self.padded

    def instruction(self, group):
        return self.program.kernel.instructions[group.pc]

    def report_divergence(self, waiting, other, blocks, does):
        """Threads of one block wait where others of it will not come."""
        waiting_thread, other_thread = (np.flatnonzero(group.mask & np.repeat(blocks, self.padded))[0]
                                        for group in (waiting, other))
        self.fault(self.instruction(waiting), waiting_thread,
                   "divergent barrier: waits here for all threads of its block, but "
                   f"{self.format_thread(other_thread)} {does}")

    def report_deadlock(self):
        """Everybody waits."""
        first = [np.flatnonzero(group.mask)[0] for group in self.groups]
        told = [f"{group.count} threads, the first {self.format_thread(thread)}, wait at {self.instruction(group).location}"
                for group, thread in zip(self.groups, first, strict=True)]
        self.fault(self.instruction(self.groups[0]), first[0], f"deadlock: nobody can go on: {'; '.join(told)}")


def format_axes(number, sizes):
    """A number as (x, y, z)."""
    x, y, _ = sizes
    return f"({number % x}, {number // x % y}, {number // (x * y)})"


def special_registers(grid, block, every, padded):
    """The registers that say who a thread is.  Where all threads agree, one number."""
    values = {}
    for name, sizes, numbers in [("tid", block, every % padded), ("ctaid", grid, every // padded)]:
        for n, axis in enumerate("xyz"):
            all_ = numbers // int(np.prod(sizes[:n])) % sizes[n] if sizes[n] > 1 else 0
            values[f"%{name}.{axis}"] = all_
            values[f"%n{name}.{axis}"] = sizes[n]
    lane = every % 32
    one, ones = np.uint32(1), np.uint32(0xffffffff)
    bit = one << lane.astype(np.uint32)
    values |= {"%laneid": lane, "%warpid": every % padded // 32, "%nwarpid": padded // 32, "%lanemask_eq": bit,
               "%lanemask_lt": bit - one, "%lanemask_le": bit | bit - one, "%lanemask_ge": ones - (bit - one),
               "%lanemask_gt": ones - (bit | bit - one)}
    return {name: np.asarray(value).astype(np.uint32)[()] for name, value in values.items()}
