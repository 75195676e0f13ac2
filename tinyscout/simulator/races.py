"""Who wrote and who read each place of a memory, and since when: races, and reads of what nobody has written.

Two accesses to one place by different threads, at least one of them a write, are a race unless something orders them:
a barrier that both threads' warps pass in between, or, within a warp, __syncwarp.  Blocks are never ordered.
Atomics do not race with atomics.
"""
import numpy as np

MAX_PENDING = 32                       # reads that are kept as they came, before they are entered


class EpochClock:
    """Counts the accesses to memory, and remembers at which of them each block and warp was last in step."""

    def __init__(self, blocks, padded):
        self.padded, self.now, self.locations = padded, 0, [""]
        self.blocks = np.zeros(blocks, np.int32)
        self.warps = np.zeros(blocks * padded // 32, np.int32)

    def tick(self, location):
        """The number of the next access, which is made at a place of the source."""
        self.now += 1
        self.locations.append(location)
        return self.now

    def block_barrier(self, blocks):
        self.blocks[blocks] = self.now
        self.warps.reshape(len(self.blocks), -1)[blocks] = self.now

    def warp_barrier(self, warps):
        self.warps[warps] = self.now


class AccessLog:
    """For each place the lowest and the highest thread that came since they were last in step, and the last time."""

    def __init__(self, size, clock, between_blocks):
        self.low, self.high, self.when = (np.zeros(size, np.int32) for _ in range(3))
        self.clock, self.between_blocks, self.newest, self.pending = clock, between_blocks, 0, []

    def is_unordered(self, at, threads):
        """Which of the threads `me`, each at its place, have nothing between them and who came before."""
        low, high, when, clock = self.low[at], self.high[at], self.when[at], self.clock
        block = threads // clock.padded
        in_warp = (low >> 5 == threads >> 5) & (high >> 5 == threads >> 5)
        in_block = (low // clock.padded == block) & (high // clock.padded == block)
        ordered = np.where(in_warp, clock.warps[threads >> 5], np.where(in_block, clock.blocks[block], 0))
        return when > ordered

    def conflicts(self, at, threads, since):
        """Which threads race with others here, or None; since: up to then, all that happened is ordered."""
        if self.newest <= since:
            return None
        for entry in self.pending:
            self.enter(*entry)
        self.pending = []
        if self.when[at].max() <= since:
            return None
        wrong = self.is_unordered(at, threads) & ((self.low[at] != threads) | (self.high[at] != threads))
        return wrong if wrong.any() else None

    def add(self, at, threads, now):
        """Threads `me` were here; entered when somebody asks."""
        self.newest = now
        self.pending.append((at, threads, now))
        if len(self.pending) > MAX_PENDING:
            for entry in self.pending:
                self.enter(*entry)
            self.pending = []

    def enter(self, at, threads, now):
        new = at[~self.is_unordered(at, threads)]
        self.low[new], self.high[new] = np.iinfo(np.int32).max, -1
        np.minimum.at(self.low, at, threads)
        np.maximum.at(self.high, at, threads)
        self.when[at] = now

    def replace(self, at, threads, now):
        """Threads `me` write here.  Gives those that are not alone at their place, or None."""
        self.newest = now
        self.low[at], self.when[at] = threads, now
        lost = self.low[at] != threads
        return lost if lost.any() else None


class ShadowMemory:
    """The records of one memory, in grains of as many bytes as its smallest access has."""

    def __init__(self, name, size, grain, clock, between_blocks, written):
        self.name, self.shift, self.clock, self.between_blocks = name, grain.bit_length() - 1, clock, between_blocks
        size = -(-size // grain)
        self.reads, self.writes, self.atomics = (AccessLog(size, clock, between_blocks) for _ in range(3))
        self.writes.high = self.writes.low              # a write has one thread
        self.written, self.filling = written, None

    def check_access(self, m, instruction, action, position, width, threads):
        """Enter an access ("reads", "writes", "adds to") by threads `me`.  Raises Fault."""
        at = position >> self.shift
        if (many := width >> self.shift) > 1:
            at, threads = (at[:, None] + np.arange(many)).ravel(), np.repeat(threads, many)
        since = 0 if self.between_blocks else m.in_step()
        now = self.clock.tick(instruction.location)
        if not self.written and action != "writes" and (missing := self.writes.when[at] == 0).any():
            self.check_written(m, instruction, at, threads, missing)
        if self.filling is not None and self.filling[at].any():
            m.fault(instruction, threads[self.filling[at]][0],
                    f"{action} {self.name} that an asynchronous copy is still filling: there is no wait before")
        against = [self.writes] if action == "reads" else [self.writes, self.reads]
        against += [] if action == "adds to" else [self.atomics]
        for record in against:
            if (wrong := record.conflicts(at, threads, since)) is not None:
                self.report_race(m, instruction, action, record, at[wrong][0], threads[wrong][0])
        if action == "writes":
            if (lost := self.writes.replace(at, threads, now)) is not None:
                other = self.writes.low[at[lost][0]]
                m.fault(instruction, threads[lost][0],
                        f"race: {m.format_thread(other)} writes the same place of {self.name} "
                        "in the same instruction")
        else:
            (self.reads if action == "reads" else self.atomics).add(at, threads, now)

    def forget(self):
        """Every thread is in step: who reads before can race with nobody."""
        self.reads.pending = []

    def check_written(self, m, instruction, at, threads, missing):
        """Some places were never written by a store; by an atomic is as good."""
        for entry in self.atomics.pending:
            self.atomics.enter(*entry)
        self.atomics.pending = []
        missing = missing & (self.atomics.when[at] == 0)
        if missing.any():
            m.fault(instruction, threads[missing][0], f"reads {self.name} that nobody has written")

    def report_race(self, m, instruction, action, record, at, thread):
        other = record.low[at] if record.low[at] != thread else record.high[at]
        did = {id(self.reads): "read", id(self.writes): "wrote", id(self.atomics): "changed"}[id(record)]
        location = self.clock.locations[record.when[at]]
        between = "no barrier" if m.block_of(other) == m.block_of(thread) else "nothing"
        m.fault(instruction, thread, f"race: {action} {self.name} that {m.format_thread(other)} {did} at {location}, with {between} in between")

    def mark_filling(self, position, width, is_filling):
        """An asynchronous copy begins or ends to fill these places."""
        if self.filling is None:
            self.filling = np.zeros(len(self.writes.low), bool)
        at = position >> self.shift
        self.filling[(at[:, None] + np.arange(max(1, width >> self.shift))).ravel()] = is_filling
