"""The race detector: logs the accesses to each cell of a memory, to find races and uninitialised reads.

A cell has the size of the smallest access to the memory.  Two accesses to one cell by different threads, at least one
of them a write, are a race unless something orders them: a barrier that both threads' warps pass in between, or, within
a warp, __syncwarp.  Blocks are never ordered.  Atomics do not race with atomics.
"""
import numpy as np

MAX_PENDING = 32                # accesses that are collected before they are entered into the cells


class EpochClock:
    """Numbers the accesses to memory, and stores the number, or epoch, of each block's and warp's last barrier."""

    def __init__(self, block_count, block_stride):
        self.block_stride, self.now, self.locations = block_stride, 0, [""]
        self.block_epochs = np.zeros(block_count, np.int32)
        self.warp_epochs = np.zeros(block_count * block_stride // 32, np.int32)

    def tick(self, location):
        """Return the epoch of the next access, by a line of the source."""
        self.now += 1
        self.locations.append(location)
        return self.now

    def block_barrier(self, blocks):
        self.block_epochs[blocks] = self.now
        self.warp_epochs.reshape(len(self.block_epochs), -1)[blocks] = self.now

    def warp_barrier(self, warps):
        self.warp_epochs[warps] = self.now


class AccessLog:
    """For each cell: the lowest and the highest thread of its accesses since a barrier, and the last one's epoch."""

    def __init__(self, size, clock):
        self.low, self.high, self.epoch = (np.zeros(size, np.int32) for _ in range(3))
        self.clock, self.last_epoch, self.pending = clock, 0, []

    def is_unordered(self, cells, threads):
        """True for each thread whose access to its cell is not ordered after those in the log."""
        low, high, epoch, clock = self.low[cells], self.high[cells], self.epoch[cells], self.clock
        block = threads // clock.block_stride
        is_same_warp = (low >> 5 == threads >> 5) & (high >> 5 == threads >> 5)
        is_same_block = (low // clock.block_stride == block) & (high // clock.block_stride == block)
        last_barrier = np.where(is_same_warp, clock.warp_epochs[threads >> 5],
                                np.where(is_same_block, clock.block_epochs[block], 0))
        return epoch > last_barrier

    def find_conflicts(self, cells, threads, sync_epoch):
        """Return a mask of the threads that race with the log, or None; accesses up to sync_epoch are ordered."""
        if self.last_epoch <= sync_epoch:
            return None
        self.enter_pending()
        if np.maximum.reduce(self.epoch[cells]) <= sync_epoch:
            return None
        racing = self.is_unordered(cells, threads) & ((self.low[cells] != threads) | (self.high[cells] != threads))
        return racing if racing.any() else None

    def add(self, cells, threads, epoch):
        """Log an access; it is entered into the cells before they are next read."""
        self.last_epoch = epoch
        self.pending.append((cells, threads, epoch))
        if len(self.pending) > MAX_PENDING:
            self.enter_pending()

    def enter_pending(self):
        for entry in self.pending:
            self.enter(*entry)
        self.pending = []

    def enter(self, cells, threads, epoch):
        ordered = cells[~self.is_unordered(cells, threads)]
        self.low[ordered], self.high[ordered] = np.iinfo(np.int32).max, -1
        np.minimum.at(self.low, cells, threads)
        np.maximum.at(self.high, cells, threads)
        self.epoch[cells] = epoch

    def replace(self, cells, threads, epoch):
        """Log a write  ->  mask of the threads that another thread overwrote in the same write, or None."""
        self.last_epoch = epoch
        self.low[cells], self.epoch[cells] = threads, epoch
        overwritten = self.low[cells] != threads
        return overwritten if overwritten.any() else None


class ShadowMemory:
    """The access logs of one memory.

    cell_size: bytes of a cell; is_global: shared by all blocks; is_initialized: may be read before it is written
    """

    def __init__(self, name, size, cell_size, clock, is_global, is_initialized):
        self.name, self.shift, self.clock, self.is_global = name, cell_size.bit_length() - 1, clock, is_global
        cell_count = -(-size // cell_size)
        self.reads, self.writes, self.atomics = (AccessLog(cell_count, clock) for _ in range(3))
        self.writes.high = self.writes.low              # a write has one thread
        self.is_initialized, self.filling = is_initialized, None

    def check_access(self, m, instruction, action, position, width, threads):
        """Log an access ("reads", "writes", "adds to") by threads, each of `width` bytes.  Raises Fault."""
        cells = position >> self.shift
        if (cells_per_access := width >> self.shift) > 1:
            cells = (cells[:, None] + np.arange(cells_per_access)).ravel()
            threads = np.repeat(threads, cells_per_access)
        sync_epoch = 0 if self.is_global else m.last_sync_epoch()
        epoch = self.clock.tick(instruction.location)
        if not self.is_initialized and action != "writes" and np.minimum.reduce(self.writes.epoch[cells]) == 0:
            self.check_initialized(m, instruction, cells, threads, self.writes.epoch[cells] == 0)
        if self.filling is not None and self.filling[cells].any():
            m.fault(instruction, threads[self.filling[cells]][0],
                    f"{action} {self.name} that an asynchronous copy is still filling: a wait is missing")
        logs = [self.writes] if action == "reads" else [self.writes, self.reads]
        logs += [] if action == "adds to" else [self.atomics]
        for log in logs:
            if (racing := log.find_conflicts(cells, threads, sync_epoch)) is not None:
                self.report_race(m, instruction, action, log, cells[racing][0], threads[racing][0])
        if action == "writes":
            if (overwritten := self.writes.replace(cells, threads, epoch)) is not None:
                other = self.writes.low[cells[overwritten][0]]
                m.fault(instruction, threads[overwritten][0],
                        f"race: {m.format_thread(other)} writes the same bytes of {self.name} in the same instruction")
        else:
            (self.reads if action == "reads" else self.atomics).add(cells, threads, epoch)

    def forget_reads(self):
        """Drop all logged reads after a barrier of all threads: they cannot race any more."""
        self.reads.pending = []

    def check_initialized(self, m, instruction, cells, threads, missing):
        """Raise Fault if neither a store nor an atomic has written a cell."""
        self.atomics.enter_pending()
        missing = missing & (self.atomics.epoch[cells] == 0)
        if missing.any():
            m.fault(instruction, threads[missing][0], f"reads uninitialised {self.name}")

    def report_race(self, m, instruction, action, log, cell, thread):
        other = log.low[cell] if log.low[cell] != thread else log.high[cell]
        did = {id(self.reads): "read", id(self.writes): "wrote", id(self.atomics): "changed"}[id(log)]
        location = self.clock.locations[log.epoch[cell]]
        between = "no barrier" if m.block_of(other) == m.block_of(thread) else "nothing"
        m.fault(instruction, thread, f"race: {action} {self.name} that {m.format_thread(other)} {did} at {location}, "
                                     f"with {between} in between")

    def mark_filling(self, position, width, is_filling):
        """Mark that an asynchronous copy begins or ends filling `width` bytes from each position on."""
        if self.filling is None:
            self.filling = np.zeros(len(self.writes.low), bool)
        cells = position >> self.shift
        self.filling[(cells[:, None] + np.arange(max(1, width >> self.shift))).ravel()] = is_filling
