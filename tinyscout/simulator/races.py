"""Who wrote and who read each place of a memory, and since when: races, and reads of what nobody has written.

Two accesses to one place by different threads, at least one of them a write, are a race unless something orders them:
a barrier that both threads' warps pass in between, or, within a warp, __syncwarp.  Blocks are never ordered.
Atomics do not race with atomics.
"""
import numpy as np

LAZY = 32                       # reads that are kept as they came, before they are entered


class Clock:
    """Counts the accesses to memory, and remembers at which of them each block and warp was last in step."""

    def __init__(self, blocks, padded):
        self.padded, self.now, self.places = padded, 0, [""]
        self.blocks = np.zeros(blocks, np.int32)
        self.warps = np.zeros(blocks * padded // 32, np.int32)

    def tick(self, place):
        """The number of the next access, which is made at a place of the source."""
        self.now += 1
        self.places.append(place)
        return self.now

    def block_barrier(self, blocks):
        self.blocks[blocks] = self.now
        self.warps.reshape(len(self.blocks), -1)[blocks] = self.now

    def warp_barrier(self, warps):
        self.warps[warps] = self.now


class Record:
    """For each place the lowest and the highest thread that came since they were last in step, and the last time."""

    def __init__(self, size, clock, between_blocks):
        self.low, self.high, self.when = (np.zeros(size, np.int32) for _ in range(3))
        self.clock, self.between_blocks, self.newest, self.pending = clock, between_blocks, 0, []

    def unordered(self, at, me):
        """Which of the threads `me`, each at its place, have nothing between them and who came before."""
        low, high, when, clock = self.low[at], self.high[at], self.when[at], self.clock
        block = me // clock.padded
        in_warp = (low >> 5 == me >> 5) & (high >> 5 == me >> 5)
        in_block = (low // clock.padded == block) & (high // clock.padded == block)
        ordered = np.where(in_warp, clock.warps[me >> 5], np.where(in_block, clock.blocks[block], 0))
        return when > ordered

    def conflicts(self, at, me, since):
        """Which threads race with others here, or None; since: up to then, all that happened is ordered."""
        if self.newest <= since:
            return None
        for entry in self.pending:
            self.enter(*entry)
        self.pending = []
        if np.maximum.reduce(self.when[at]) <= since:
            return None
        wrong = self.unordered(at, me) & ((self.low[at] != me) | (self.high[at] != me))
        return wrong if wrong.any() else None

    def add(self, at, me, now):
        """Threads `me` were here; entered when somebody asks."""
        self.newest = now
        self.pending.append((at, me, now))
        if len(self.pending) > LAZY:
            for entry in self.pending:
                self.enter(*entry)
            self.pending = []

    def enter(self, at, me, now):
        new = at[~self.unordered(at, me)]
        self.low[new], self.high[new] = np.iinfo(np.int32).max, -1
        np.minimum.at(self.low, at, me)
        np.maximum.at(self.high, at, me)
        self.when[at] = now

    def replace(self, at, me, now):
        """Threads `me` write here.  Gives those that are not alone at their place, or None."""
        self.newest = now
        self.low[at], self.when[at] = me, now
        lost = self.low[at] != me
        return lost if lost.any() else None


class Shadow:
    """The records of one memory, in grains of as many bytes as its smallest access has."""

    def __init__(self, name, size, grain, clock, between_blocks, written):
        self.name, self.shift, self.clock, self.between_blocks = name, grain.bit_length() - 1, clock, between_blocks
        size = -(-size // grain)
        self.reads, self.writes, self.atomics = (Record(size, clock, between_blocks) for _ in range(3))
        self.writes.high = self.writes.low              # a write has one thread
        self.written, self.filling = written, None

    def look(self, m, line, how, position, width, me):
        """Enter an access ("reads", "writes", "adds to") by threads `me`.  Raises Fault."""
        at = position >> self.shift
        if (many := width >> self.shift) > 1:
            at, me = (at[:, None] + np.arange(many)).ravel(), np.repeat(me, many)
        since = 0 if self.between_blocks else m.in_step()
        now = self.clock.tick(line.place)
        if not self.written and how != "writes" and np.minimum.reduce(self.writes.when[at]) == 0:
            self.missing(m, line, at, me, self.writes.when[at] == 0)
        if self.filling is not None and self.filling[at].any():
            m.fault(line, me[self.filling[at]][0],
                    f"{how} {self.name} that an asynchronous copy is still filling: there is no wait before")
        against = [self.writes] if how == "reads" else [self.writes, self.reads]
        against += [] if how == "adds to" else [self.atomics]
        for record in against:
            if (wrong := record.conflicts(at, me, since)) is not None:
                self.race(m, line, how, record, at[wrong][0], me[wrong][0])
        if how == "writes":
            if (lost := self.writes.replace(at, me, now)) is not None:
                other = self.writes.low[at[lost][0]]
                m.fault(line, me[lost][0], f"race: {m.thread(other)} writes the same place of {self.name} "
                                           "in the same instruction")
        else:
            (self.reads if how == "reads" else self.atomics).add(at, me, now)

    def forget(self):
        """Every thread is in step: who reads before can race with nobody."""
        self.reads.pending = []

    def missing(self, m, line, at, me, missing):
        """Some places were never written by a store; by an atomic is as good."""
        for entry in self.atomics.pending:
            self.atomics.enter(*entry)
        self.atomics.pending = []
        missing = missing & (self.atomics.when[at] == 0)
        if missing.any():
            m.fault(line, me[missing][0], f"reads {self.name} that nobody has written")

    def race(self, m, line, how, record, at, me):
        other = record.low[at] if record.low[at] != me else record.high[at]
        did = {id(self.reads): "read", id(self.writes): "wrote", id(self.atomics): "changed"}[id(record)]
        where = self.clock.places[record.when[at]]
        between = "no barrier" if m.block_of(other) == m.block_of(me) else "nothing"
        m.fault(line, me, f"race: {how} {self.name} that {m.thread(other)} {did} at {where}, with {between} in between")

    def fill(self, position, width, yes):
        """An asynchronous copy begins or ends to fill these places."""
        if self.filling is None:
            self.filling = np.zeros(len(self.writes.low), bool)
        at = position >> self.shift
        self.filling[(at[:, None] + np.arange(max(1, width >> self.shift))).ravel()] = yes
