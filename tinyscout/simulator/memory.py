"""Memory: arrays at addresses, shared memory of every block, local memory of every thread; loads, stores, atomics."""
from typing import Any

import numpy as np

from tinyscout.simulator.operands import KINDS, RAW, SHORT, converted, reader
from tinyscout.simulator.ptx import SIZES, Address, Register
from tinyscout.simulator.table import unknown

FIRST, APART = 1 << 32, 1 << 12             # where arrays begin, and the least room between two
SHARED, LOCAL = 1 << 60, 1 << 61            # the addresses of shared and local memory among all others
SPACES = ("global", "shared", "local", "const")
PLAIN = {"volatile", "relaxed", "acquire", "release", "acq_rel", "weak", "nc", "gpu", "cta", "sys", "ca", "cg", "cs",
         "lu", "cv", "wb", "wt", "v2", "v4", "to", *SPACES}       # words that change nothing here


class Region:
    """Bytes at an address.  Of shared and local memory every block or thread has its own part, at base."""

    def __init__(self, name, start, data, size=None, base=None, writable=True, shadow=None):
        self.name, self.start, self.data, self.base, self.writable, self.shadow = (
            name, start, data, base, writable, shadow)
        self.size = len(data) if size is None else size
        self.views: dict = {}

    def view(self, dtype):
        if dtype not in self.views:
            self.views[dtype] = self.data[:len(self.data) // dtype.itemsize * dtype.itemsize].view(dtype)
        return self.views[dtype]


class Access:
    """How one instruction gets at memory: where its address comes from, how many bytes, and what it does there."""

    def __init__(self, line, operand, width, how, space=None):
        self.line, self.width, self.how, self.offset = line, width, how, np.int64(operand.offset)
        small = isinstance(operand.base, Register) and SIZES[operand.base.kind] == 4
        self.small = "u32" if small else "s64"
        self.address = reader(operand.base, self.small, line.place)
        self.space = space or next((word.split("::")[0] for word in line.words if word.split("::")[0] in SPACES), None)

    def parts(self, m, group=None):
        """The memory that the active threads mean  ->  [(region, threads, positions in its data)]

        threads and positions are arrays of equal length, or None for all threads; one position may stand for all.
        """
        group = group or m.group
        address = self.address(m).astype(np.int64) + self.offset
        if group.threads is not None and address.ndim:
            address = address[group.threads]
        region = m.region(self.line, self.space)
        if region is not None:
            return [(region, group.threads, self.position(m, region, group.threads, address))]
        threads = m.every if group.threads is None else group.threads
        address = np.broadcast_to(address, threads.shape)
        which = np.searchsorted(m.starts, address, "right") - 1
        return [(m.regions[n], threads[which == n], self.position(m, m.regions[n], threads[which == n],
                                                                  address[which == n])) for n in np.unique(which)]

    def position(self, m, region, threads, address):
        """Offsets that are in bounds and aligned, as positions in the region's data.  Raises Fault."""
        offset = address if self.space in ("shared", "local") else address - region.start
        if offset.ndim:
            far = offset.view(np.uint64)
            farthest, low_bits = int(np.maximum.reduce(far)), int(np.bitwise_or.reduce(far)) if self.width > 1 else 0
        else:
            farthest = low_bits = int(offset) & (1 << 64) - 1
        if farthest + self.width > region.size or low_bits & (self.width - 1):
            self.explain(m, region, threads, offset)
        if not region.writable and self.how != "reads":
            m.fault(self.line, 0 if threads is None else threads[0], f"{self.how} {region.name}, which is read only")
        if region.base is None:
            return offset
        return offset + (region.base if threads is None else region.base[threads])

    def explain(self, m, region, threads, offset):
        """Say what is wrong with the first offset that is."""
        offset = np.atleast_1d(offset)
        outside = (offset < 0) | (offset + self.width > region.size)
        first = int(np.argmax(outside if outside.any() else offset % self.width != 0))
        thread = first if threads is None else threads[min(first, len(threads) - 1)]
        here, what = int(offset[first]), f"{self.how} {self.width} bytes"
        if not outside.any():
            m.fault(self.line, thread, f"{what} at byte {here} of {region.name}, which is no multiple of {self.width}")
        where = f"{-here} bytes before the start" if here < 0 else f"{here - region.size} bytes past the end"
        m.fault(self.line, thread, f"{what} {where if here != region.size else 'just past the end'} of {region.name}")

    def noted(self, m, group=None):
        """parts, entered into the race detector and the profile, positions as arrays."""
        for region, threads, position in self.parts(m, group):
            who = m.every if threads is None else threads
            if region.shadow or m.profile:
                all_of_them = position if position.ndim else np.full(len(who), position)
                if m.profile:
                    m.profile.memory(self, region, who, all_of_them)
                if region.shadow:
                    region.shadow.look(m, self.line, self.how, all_of_them, self.width, who)
            yield region, threads, position


def checked(line):
    """Raises Fault for an instruction with words that mean something the simulator does not know."""
    if {word for word in line.words if "::" not in word} - PLAIN:
        raise unknown(line)


def load(line):
    """ld: one to four numbers from memory into registers."""
    checked(line)
    registers = line.operands[0] if isinstance(line.operands[0], list) else [line.operands[0]]
    dtype = KINDS[line.kind]
    access = Access(line, line.operands[1], dtype.itemsize * len(registers), "reads")
    raw, shift = RAW[access.width], access.width.bit_length() - 1

    def step(m):
        columns = [None] * len(registers)
        for region, threads, position in access.noted(m):
            found = region.view(raw)[position >> shift]
            if len(registers) == 1:
                columns[0] = m.spread(found.view(dtype), threads, columns[0])
                continue
            found = np.asarray(found).reshape(-1).view(dtype).reshape(-1, len(registers))
            for n in range(len(registers)):
                column = found[:, n] if position.ndim else found[0, n]
                columns[n] = m.spread(column, threads, columns[n])
        for register, column in zip(registers, columns, strict=True):
            if register is not None:
                m.put(register.number, converted(column, KINDS[f"b{8 * SIZES[register.kind]}"])
                      if SIZES[register.kind] != dtype.itemsize else column)
    return step


def store(line):
    """st: one to four numbers from registers into memory."""
    checked(line)
    operands = line.operands[1] if isinstance(line.operands[1], list) else [line.operands[1]]
    dtype = KINDS[line.kind]
    access = Access(line, line.operands[0], dtype.itemsize * len(operands), "writes")
    reads = [reader(operand, line.kind, line.place) for operand in operands]
    raw, shift = RAW[access.width], access.width.bit_length() - 1

    def step(m):
        values = [read(m) for read in reads]
        for region, threads, position in access.noted(m):
            mine = [value if threads is None or not value.ndim else value[threads] for value in values]
            if len(mine) == 1:
                found = mine[0].view(raw)
            else:
                found = np.empty((len(m.every) if threads is None else len(threads), len(mine)), dtype)
                for n, value in enumerate(mine):
                    found[:, n] = value
                found = found.view(raw)[:, 0]
            if not position.ndim and found.ndim:
                found = found[-1]
            region.view(raw)[position >> shift] = found
    return step


CHANGES: dict[str, Any] = {
    "add": np.add, "min": np.minimum, "max": np.maximum, "and": np.bitwise_and, "or": np.bitwise_or,
    "xor": np.bitwise_xor, "exch": lambda old, new: new, "inc": lambda old, top: 0 if old >= top else old + 1,
    "dec": lambda old, top: top if old == 0 or old > top else old - 1}


def atomic(line):
    """atom and red: read, change and write, one thread after another in the order of their numbers."""
    change = next((word for word in line.words if word in (*CHANGES, "cas")), None)
    if change is None or set(line.words) - PLAIN - {change, "noftz"} or line.kind in SHORT:
        raise unknown(line)
    result = line.operands[0] if line.name == "atom" else None
    place, *operands = line.operands[1:] if line.name == "atom" else line.operands
    assert isinstance(place, Address)
    kind, dtype = line.kind, KINDS[line.kind]
    access = Access(line, place, dtype.itemsize, "adds to")
    reads = [reader(operand, kind, line.place) for operand in operands]
    shift = dtype.itemsize.bit_length() - 1

    def step(m):
        values, old = [np.broadcast_to(read(m), m.every.shape) for read in reads], None
        for region, threads, position in access.noted(m):
            who = m.every if threads is None else threads
            view, places = region.view(dtype), np.broadcast_to(position >> shift, who.shape)
            mine = [value[who] for value in values]
            if result is None and change in ("add", "min", "max", "and", "or", "xor"):
                CHANGES[change].at(view, places, mine[0])
            else:
                old = m.spread(in_turn(view, places, mine, change), threads, old)
        if result is not None:
            m.put(result.number, old)
    return step


def in_turn(view, places, operands, change):
    """Change one place after another  ->  what was there before each"""
    before = np.empty(len(places), view.dtype)
    for n, place in enumerate(places):
        old = before[n] = view[place]
        if change == "cas":
            expected, new = (operand[n] for operand in operands)
            view[place] = new if old == expected else old
        else:
            view[place] = CHANGES[change](old, operands[0][n])
    return before


def cvta(line):
    """Addresses of one space among those of all, and back."""
    space = next(word for word in line.words if word in SPACES)
    window = np.int64({"shared": SHARED, "local": LOCAL}.get(space, 0) * (-1 if "to" in line.words else 1))
    read, register = reader(line.operands[1], "s64", line.place), line.operands[0]
    return lambda m: m.put(register.number, read(m) + window)


TABLE = {"ld": load, "ldu": load, "st": store, "atom": atomic, "red": atomic, "cvta": cvta}
