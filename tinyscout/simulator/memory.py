"""Memory: arrays at addresses, shared memory of every block, local memory of every thread; loads, stores, atomics."""
from typing import Any

import numpy as np

from tinyscout.simulator.operands import KINDS, RAW, SHORT, convert_bits, make_reader
from tinyscout.simulator.ptx import SIZES, Address, Register
from tinyscout.simulator.registry import unknown_instruction

FIRST_ADDRESS, ARRAY_GAP = 1 << 32, 1 << 12             # where arrays begin, and the least room between two
SHARED, LOCAL = 1 << 60, 1 << 61                        # the addresses of shared and local memory among all others
SPACES = ("global", "shared", "local", "const")
NEUTRAL_MODIFIERS = {"volatile", "relaxed", "acquire", "release", "acq_rel", "weak", "nc", "gpu", "cta", "sys", "ca",
                     "cg", "cs",
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

    def __init__(self, instruction, operand, width, action, space=None):
        self.instruction, self.width, self.action, self.offset = instruction, width, action, np.int64(operand.offset)
        kind = isinstance(operand.base, Register) and SIZES[operand.base.kind] == 4
        self.kind = "u32" if kind else "s64"
        self.address = make_reader(operand.base, self.kind, instruction.location)
        self.space = space or next((word.split("::")[0] for word in instruction.modifiers
                                    if word.split("::")[0] in SPACES),
                                   None)

    def resolve(self, m, group=None):
        """The memory that the active threads mean  ->  [(region, threads, positions in its data)]

        threads and positions are arrays of equal length, or None for all threads; one position may stand for all.
        """
        group = group or m.group
        address = self.address(m).astype(np.int64) + self.offset
        if group.threads is not None and address.ndim:
            address = address[group.threads]
        region = m.region(self.instruction, self.space)
        if region is not None:
            return [(region, group.threads, self.position(m, region, group.threads, address))]
        threads = m.all_threads_mask if group.threads is None else group.threads
        address = np.broadcast_to(address, threads.shape)
        which = np.searchsorted(m.starts, address, "right") - 1
        return [(m.regions[n], threads[which == n], self.position(m, m.regions[n], threads[which == n],
                                                                  address[which == n])) for n in np.unique(which)]

    def position(self, m, region, threads, address):
        """Offsets that are in bounds and aligned, as positions in the region's data.  Raises Fault."""
        offset = address if self.space in ("shared", "local") else address - region.start
        far = offset.view(np.uint64)
        if int(far.max()) + self.width > region.size or int(np.bitwise_or.reduce(far, axis=None)) & (self.width - 1):
            self.explain(m, region, threads, offset)
        if not region.writable and self.action != "reads":
            m.fault(self.instruction, 0 if threads is None else threads[0],
                    f"{self.action} {region.name}, which is read only")
        if region.base is None:
            return offset
        return offset + (region.base if threads is None else region.base[threads])

    def explain(self, m, region, threads, offset):
        """Say what is wrong with the first offset that is."""
        offset = np.atleast_1d(offset)
        outside = (offset < 0) | (offset + self.width > region.size)
        first = int(np.argmax(outside if outside.any() else offset % self.width != 0))
        thread = first if threads is None else threads[min(first, len(threads) - 1)]
        byte, what = int(offset[first]), f"{self.action} {self.width} bytes"
        if not outside.any():
            m.fault(self.instruction, thread,
                    f"{what} at byte {byte} of {region.name}, which is no multiple of {self.width}")
        where = f"{-byte} bytes before the start" if byte < 0 else f"{byte - region.size} bytes past the end"
        m.fault(self.instruction, thread,
                f"{what} {where if byte != region.size else 'just past the end'} of {region.name}")

    def record(self, m, group=None):
        """parts, entered into the race detector and the profile, positions as arrays."""
        for region, threads, position in self.resolve(m, group):
            active = m.all_threads_mask if threads is None else threads
            if region.shadow or m.profile:
                positions = position if position.ndim else np.full(len(active), position)
                if m.profile:
                    m.profile.count_access(self, region, active, positions)
                if region.shadow:
                    region.shadow.check_access(m, self.instruction, self.action, positions, self.width, active)
            yield region, threads, position


def check_modifiers(instruction):
    """Raises Fault for an instruction with words that mean something the simulator does not know."""
    if {word for word in instruction.modifiers if "::" not in word} - NEUTRAL_MODIFIERS:
        raise unknown_instruction(instruction)


def load(instruction):
    """ld: one to four numbers from memory into registers."""
    check_modifiers(instruction)
    registers = instruction.operands[0] if isinstance(instruction.operands[0], list) else [instruction.operands[0]]
    dtype = KINDS[instruction.kind]
    access = Access(instruction, instruction.operands[1], dtype.itemsize * len(registers), "reads")
    raw, shift = RAW[access.width], access.width.bit_length() - 1

    def step(m):
        columns = [None] * len(registers)
        for region, threads, position in access.record(m):
            found = region.view(raw)[position >> shift]
            found = np.asarray(found).reshape(-1).view(dtype).reshape(-1, len(registers))
            for n in range(len(registers)):
                column = found[:, n] if position.ndim else found[0, n]
                columns[n] = m.spread(column, threads, columns[n])
        for register, column in zip(registers, columns, strict=True):
            if register is not None:
                m.write_register(register.number, convert_bits(column, KINDS[f"b{8 * SIZES[register.kind]}"])
                                 if SIZES[register.kind] != dtype.itemsize else column)
    return step


def store(instruction):
    """st: one to four numbers from registers into memory."""
    check_modifiers(instruction)
    operands = instruction.operands[1] if isinstance(instruction.operands[1], list) else [instruction.operands[1]]
    dtype = KINDS[instruction.kind]
    access = Access(instruction, instruction.operands[0], dtype.itemsize * len(operands), "writes")
    reads = [make_reader(operand, instruction.kind, instruction.location) for operand in operands]
    raw, shift = RAW[access.width], access.width.bit_length() - 1

    def step(m):
        values = [read(m) for read in reads]
        for region, threads, position in access.record(m):
            operand_values = [value if threads is None or not value.ndim else value[threads] for value in values]
            if len(operand_values) == 1:
                found = operand_values[0].view(raw)
            else:
                found = np.empty((len(m.all_threads_mask) if threads is None else len(threads), len(operand_values)),
                                 dtype)
                for n, value in enumerate(operand_values):
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


def atomic(instruction):
    """atom and red: read, change and write, one thread after another in the order of their numbers."""
    change = next((word for word in instruction.modifiers if word in (*CHANGES, "cas")), None)
    if change is None or set(instruction.modifiers) - NEUTRAL_MODIFIERS - {change,
                                                                           "noftz"} or instruction.kind in SHORT:
        raise unknown_instruction(instruction)
    result = instruction.operands[0] if instruction.name == "atom" else None
    target, *operands = instruction.operands[1:] if instruction.name == "atom" else instruction.operands
    assert isinstance(target, Address)
    kind, dtype = instruction.kind, KINDS[instruction.kind]
    access = Access(instruction, target, dtype.itemsize, "adds to")
    reads = [make_reader(operand, kind, instruction.location) for operand in operands]
    shift = dtype.itemsize.bit_length() - 1

    def step(m):
        values, old = [np.broadcast_to(read(m), m.all_threads_mask.shape) for read in reads], None
        for region, threads, position in access.record(m):
            active = m.all_threads_mask if threads is None else threads
            view, positions = region.view(dtype), np.broadcast_to(position >> shift, active.shape)
            operand_values = [value[active] for value in values]
            if result is None and change in ("add", "min", "max", "and", "or", "xor"):
                CHANGES[change].at(view, positions, operand_values[0])
            else:
                old = m.spread(change_in_order(view, positions, operand_values, change), threads, old)
        if result is not None:
            m.write_register(result.number, old)
    return step


def change_in_order(view, positions, operands, change):
    """Change one place after another  ->  what was there before each"""
    previous = np.empty(len(positions), view.dtype)
    for n, position in enumerate(positions):
        old = previous[n] = view[position]
        if change == "cas":
            expected, new = (operand[n] for operand in operands)
            view[position] = new if old == expected else old
        else:
            view[position] = CHANGES[change](old, operands[0][n])
    return previous


def cvta(instruction):
    """Addresses of one space among those of all, and back."""
    space = next(word for word in instruction.modifiers if word in SPACES)
    window = np.int64({"shared": SHARED, "local": LOCAL}.get(space, 0) * (-1 if "to" in instruction.modifiers else 1))
    read, register = make_reader(instruction.operands[1], "s64", instruction.location), instruction.operands[0]
    return lambda m: m.write_register(register.number, read(m) + window)


TABLE = {"ld": load, "ldu": load, "st": store, "atom": atomic, "red": atomic, "cvta": cvta}
