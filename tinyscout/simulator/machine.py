"""A GPU in NumPy: all threads of a launch at once, one instruction after another.

Threads that a branch parts go on as groups; the group at the lowest instruction goes first, so that groups meet again.
"""
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from tinyscout.simulator.control import STOP
from tinyscout.simulator.ptx import Fault
from tinyscout.simulator.races import Clock
from tinyscout.simulator.warp import Copies

END = 1 << 40                   # a position behind every instruction


class Group:
    """Threads that are at the same instruction.  threads: their numbers, or None for all there are."""

    def __init__(self, mask, at=0):
        self.mask, self.at, self.waits = mask, at, ""
        self.count = int(np.count_nonzero(mask))

    @cached_property
    def threads(self) -> Any:
        return None if self.count == len(self.mask) else np.flatnonzero(self.mask)

    def where(self, condition):
        return Group(self.mask & condition, self.at)


class Everything:
    """A set that holds all."""

    def __contains__(self, _):
        return True


class Machine:
    """The state of a launch.  A register is an array over all threads, or one number while all of them agree.

    Threads are numbered block by block, and each block has whole warps: lanes beyond its last thread never live.
    """

    everything = Everything()

    def __init__(self, program, grid, block, profile):
        self.program, self.grid, self.block, self.profile = program, grid, block, profile
        threads, self.blocks = (int(np.prod(size)) for size in (block, grid))
        self.padded = -(-threads // 32) * 32
        self.size = self.blocks * self.padded
        self.every = np.arange(self.size)
        self.living = self.every % self.padded < threads
        self.alive = threads * self.blocks
        self.registers = list(program.zeros)
        self.groups = [Group(self.living.copy())]
        self.level: int | None = 0
        self.kept: Any = frozenset()
        self.arrays: dict = {}          # {argument: (region, address)}; these four are launch.lay_out's
        self.found: dict = {}
        self.shared: Any = None
        self.local: Any = None
        self.clock, self.copies, self.arrivals = Clock(self.blocks, self.padded), Copies(self.size), {}
        self.special = dict(special(grid, block))

    def run(self, limit):
        """Until every thread has ended.  Raises Fault; limit: of instructions, each by a group of threads."""
        steps = self.program.steps
        if self.profile:
            steps = [self.profile.counted(step, line) for step, line in
                     zip(steps, self.program.kernel.instructions, strict=True)]
        while self.groups:
            at = self.choose()
            until = self.next_stop(at)
            while at < until:
                to = steps[at](self)
                limit -= 1
                if to is None:
                    at += 1
                elif to == STOP:
                    break
                else:
                    if limit < 0:
                        self.fault(self.program.kernel.instructions[at], self.first(),
                                   "runs and runs: is this loop endless?")
                    at, until = to, self.next_stop(to)
            else:
                self.part([(self.group, at)])

    def choose(self):
        """The group at the lowest instruction becomes the one that runs, with all others that are there  ->  where"""
        running = [group.at for group in self.groups if not group.waits]
        if not running:
            self.deadlock()
        at = min(running)
        here = [group for group in self.groups if group.at == at and group.waits != "count"]
        self.groups = [group for group in self.groups if group not in here]
        self.group = here[0] if len(here) == 1 else Group(np.logical_or.reduce([group.mask for group in here]), at)
        self.group.waits = ""
        self.keep()
        return at

    def keep(self):
        """What the threads of other groups still need stays as it is when a register is written."""
        self.kept = self.program.flow.needed_by(frozenset(group.at for group in self.groups))

    def next_stop(self, at):
        """Where the group that runs meets another, or has gone so far that it is another's turn."""
        return min((group.at for group in self.groups if not group.waits or group.at >= at), default=END)

    def part(self, groups):
        """Go on in groups, each at its position; who has only to end does so at once  ->  STOP"""
        for group, at in groups:
            group.at = at
            if self.program.ends[at]:
                self.finish(group)
            else:
                self.groups.append(group)
        return STOP

    def put(self, index, value):
        """Write a register of the threads that run."""
        if index in self.kept:
            old = self.registers[index]
            value = np.where(self.group.mask, value, old if old.dtype == value.dtype else old.view(value.dtype))
        self.registers[index] = value

    def wide(self, value):
        return np.broadcast_to(value, self.every.shape)

    def spread(self, values, threads, old=None):
        """Numbers of some threads as an array over all; one number for all of them stays one."""
        if threads is None or (values.ndim == 0 and old is None):
            return values
        spread = np.zeros(self.size, values.dtype) if old is None else old
        spread[threads] = values
        return spread

    def region(self, line, space):
        """The memory that an instruction means, where that is known before its addresses are, or None."""
        if space == "shared":
            return self.shared
        if space == "local":
            return self.local
        if line.at not in self.found:
            mask = self.program.flow.pointers[line.at]
            mine = [region for n, (region, _) in self.arrays.items() if mask >> n & 1]
            self.found[line.at] = mine[0] if space == "global" and len(mine) == 1 else None
        return self.found[line.at]

    # Waiting

    def park(self, line, why="lanes"):
        """The group waits at an instruction for others  ->  STOP"""
        self.group.at, self.group.waits = line.at, why
        self.groups.append(self.group)
        return STOP

    def gathered(self, line, wanted):
        """Are all the lanes (warps, 32) that are wanted here, in warps of which any is here?"""
        here = self.group.mask.reshape(-1, 32)
        return not (wanted & ~here & here.any(1)[:, None]).any()

    def blocks_of(self, mask):
        return mask.reshape(self.blocks, -1).any(1)

    def all_at_barrier(self, line):
        """Blocks that are complete pass the barrier; are there any?  Of the others, those who are here wait."""
        if self.group.count < self.alive:
            here, all_ = (mask.reshape(self.blocks, -1).sum(1) for mask in (self.group.mask, self.living))
            torn = (here > 0) & (here < all_)
            if torn.any():
                for other in self.groups:
                    if other.waits == "barrier" and (meets := self.blocks_of(other.mask) & torn).any():
                        self.diverged(other, self.group, meets, f"waits at {line.place}")
                ready = self.group.where(~np.repeat(torn, self.padded))
                self.group = self.group.where(np.repeat(torn, self.padded))
                self.park(line, "barrier")
                self.group = ready
                self.keep()
        if self.group.count:
            self.clock.block_barrier(self.blocks_of(self.group.mask))
            self.level = self.clock.now if self.group.count == self.alive else None
            if self.level is not None:
                self.shared.shadow.forget()
        return self.group.count > 0

    def in_step(self):
        """The access to memory since when the blocks of this group have not been in step, at the earliest."""
        return int(self.clock.blocks[self.blocks_of(self.group.mask)].min()) if self.level is None else self.level

    def rendezvous(self, line, name, count, arrives):
        """A barrier for a number of threads: those who complete it take along who waited  ->  STOP"""
        if count % 32 or not count:
            self.fault(line, self.first(), f"a barrier of {count} threads, which is no number of whole warps")
        group = self.group
        for block in np.flatnonzero(self.blocks_of(group.mask)):
            mine = group.where(self.every // self.padded == block)
            came, waiting = self.arrivals.pop((block, name), (0, []))
            came += 32 * int(mine.mask.reshape(-1, 32).any(1).sum())
            if came >= count:
                for other in waiting:
                    other.waits, other.at = "", other.at + 1
                self.clock.block_barrier([block])
                self.level = None
            else:
                self.arrivals[block, name] = came, waiting if arrives else [*waiting, mine]
            self.part([(mine, line.at + 1 if came >= count or arrives else line.at)])
            mine.waits = "" if came >= count or arrives else "count"
        return STOP

    def finish(self, group):
        """Threads end."""
        for other in self.groups:
            if other.waits == "barrier" and (meets := self.blocks_of(other.mask) & self.blocks_of(group.mask)).any():
                self.diverged(other, group, meets, "has ended")
            if other.waits == "lanes":
                other.waits = ""
        self.living &= ~group.mask
        self.alive -= group.count

    # Faults

    def fault(self, line, thread, text):
        raise Fault(f"{line.place}: {self.thread(thread, 'block {1} thread {0}')}: {text}")

    def thread(self, number, form="thread {0} of block {1}"):
        """A thread as CUDA names it."""
        return form.format(axes(number % self.padded, self.block), axes(number // self.padded, self.grid))

    def first(self):
        return 0 if self.group.threads is None else self.group.threads[0]

    def block_of(self, thread):
        return thread // self.padded

    def line(self, group):
        return self.program.kernel.instructions[group.at]

    def diverged(self, waiting, other, blocks, does):
        """Threads of one block wait where others of it will not come."""
        mine, theirs = (np.flatnonzero(group.mask & np.repeat(blocks, self.padded))[0] for group in (waiting, other))
        self.fault(self.line(waiting), mine, "divergent barrier: waits here for all threads of its block, but "
                                             f"{self.thread(theirs)} {does}")

    def deadlock(self):
        """Everybody waits."""
        first = [np.flatnonzero(group.mask)[0] for group in self.groups]
        told = [f"{group.count} threads, the first {self.thread(thread)}, wait at {self.line(group).place}"
                for group, thread in zip(self.groups, first, strict=True)]
        self.fault(self.line(self.groups[0]), first[0], f"deadlock: nobody can go on: {'; '.join(told)}")


def axes(number, sizes):
    """A number as (x, y, z)."""
    x, y, _ = sizes
    return f"({number % x}, {number // x % y}, {number // (x * y)})"


@lru_cache(maxsize=64)
def special(grid, block):
    """The registers that say who a thread is.  Where all threads agree, one number."""
    padded = -(-int(np.prod(block)) // 32) * 32
    every, values = np.arange(int(np.prod(grid)) * padded), {}
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
