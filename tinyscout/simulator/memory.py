"""Memory: arrays at addresses, shared memory of every block, local memory of every thread; loads, stores, atomics."""
from typing import Any

import numpy as np

from tinyscout.simulator.operands import DTYPES, RAW_DTYPES, STORAGE_TYPES, convert_bits, make_reader
from tinyscout.simulator.ptx import SIZES, Address, Register
from tinyscout.simulator.registry import unknown_instruction

ARRAY_BASE, ARRAY_GAP = 1 << 32, 1 << 12                # the address of the first array, and bytes between two at least
SHARED_BASE, LOCAL_BASE = 1 << 60, 1 << 61              # generic addresses of shared and local memory
SPACES = ("global", "shared", "local", "const")
NEUTRAL_MODIFIERS = {"volatile", "relaxed", "acquire", "release", "acq_rel", "weak", "nc", "gpu", "cta", "sys", "ca",
                     "cg", "cs", "lu", "cv", "wb", "wt", "v2", "v4", "to", *SPACES}     # without effect here


class Region:
    """Bytes at an address.

    size: bytes that one thread may address; base: start of each thread's part of data, in shared and local memory;
    shadow: the ShadowMemory that watches it, or None
    """

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
    """One instruction's access to memory: the source of its address, its width in bytes, and its action.

    action: "reads", "writes" or "adds to"; space: one of SPACES, or None for a generic address
    """

    def __init__(self, instruction, operand, width, action, space=None):
        self.instruction, self.width, self.action, self.offset = instruction, width, action, np.int64(operand.offset)
        is_32_bit = isinstance(operand.base, Register) and SIZES[operand.base.type] == 4
        self.read_address = make_reader(operand.base, "u32" if is_32_bit else "s64", instruction.location)
        names = [modifier.split("::")[0] for modifier in instruction.modifiers]         # shared::cta is shared
        self.space = space or next((name for name in names if name in SPACES), None)

    def resolve(self, m, group=None):
        """The memory that the active threads address  ->  [(region, threads, positions in its data)]

        threads and positions are arrays of equal length, or None for all threads; one position may stand for all.
        """
        group = group or m.group
        address = self.read_address(m).astype(np.int64) + self.offset
        if group.threads is not None and address.ndim:
            address = address[group.threads]
        region = m.region(self.instruction, self.space)
        if region is not None:
            return [(region, group.threads, self.position(m, region, group.threads, address))]
        threads = m.thread_ids if group.threads is None else group.threads
        address = np.broadcast_to(address, threads.shape)
        indices = np.searchsorted(m.region_starts, address, "right") - 1
        accesses = []
        for n in np.unique(indices):
            region, is_inside = m.regions[n], indices == n
            position = self.position(m, region, threads[is_inside], address[is_inside])
            accesses.append((region, threads[is_inside], position))
        return accesses

    def position(self, m, region, threads, address):
        """Addresses as positions in the region's data.  Raises Fault for one that is out of bounds or misaligned."""
        offset = address if self.space in ("shared", "local") else address - region.start
        if offset.ndim:
            unsigned = offset.view(np.uint64)           # negative offsets are far out of bounds
            largest, low_bits = int(np.maximum.reduce(unsigned)), int(np.bitwise_or.reduce(unsigned))
        else:
            largest = low_bits = int(offset) & (1 << 64) - 1
        if largest + self.width > region.size or low_bits & (self.width - 1):
            self.report_address(m, region, threads, offset)
        if not region.writable and self.action != "reads":
            m.fault(self.instruction, 0 if threads is None else threads[0],
                    f"{self.action} {region.name}, which is read only")
        if region.base is None:
            return offset
        return offset + (region.base if threads is None else region.base[threads])

    def report_address(self, m, region, threads, offset):
        """Raise the Fault of the first offset that is out of bounds, or else misaligned."""
        offset = np.atleast_1d(offset)
        outside = (offset < 0) | (offset + self.width > region.size)
        first = int(np.argmax(outside if outside.any() else offset % self.width != 0))
        thread = first if threads is None else threads[min(first, len(threads) - 1)]
        byte, access = int(offset[first]), f"{self.action} {self.width} bytes"
        if not outside.any():
            m.fault(self.instruction, thread,
                    f"{access} at byte {byte} of {region.name}, which is not aligned to {self.width} bytes")
        distance = f"{-byte} bytes before the start" if byte < 0 else f"{byte - region.size} bytes past the end"
        m.fault(self.instruction, thread,
                f"{access} {distance if byte != region.size else 'just past the end'} of {region.name}")

    def record(self, m, group=None):
        """Yield the accesses of `resolve` after entering them into the race detector and the profile."""
        for region, threads, position in self.resolve(m, group):
            active = m.thread_ids if threads is None else threads
            if region.shadow or m.profile:
                positions = position if position.ndim else np.full(len(active), position)
                if m.profile:
                    m.profile.count_access(self, region, active, positions)
                if region.shadow:
                    region.shadow.check_access(m, self.instruction, self.action, positions, self.width, active)
            yield region, threads, position


def check_modifiers(instruction):
    """Raise Fault for an instruction with a modifier that the simulator does not know."""
    if {modifier for modifier in instruction.modifiers if "::" not in modifier} - NEUTRAL_MODIFIERS:
        raise unknown_instruction(instruction)


def load(instruction):
    """ld: one to four numbers from memory into registers."""
    check_modifiers(instruction)
    registers = instruction.operands[0] if isinstance(instruction.operands[0], list) else [instruction.operands[0]]
    dtype = DTYPES[instruction.type]
    access = Access(instruction, instruction.operands[1], dtype.itemsize * len(registers), "reads")
    raw, shift = RAW_DTYPES[access.width], access.width.bit_length() - 1

    def step(m):
        columns = [None] * len(registers)
        for region, threads, position in access.record(m):
            data = region.view(raw)[position >> shift]
            if len(registers) == 1:
                columns[0] = m.scatter(data.view(dtype), threads, columns[0])
                continue
            data = np.asarray(data).reshape(-1).view(dtype).reshape(-1, len(registers))
            for n in range(len(registers)):
                column = data[:, n] if position.ndim else data[0, n]
                columns[n] = m.scatter(column, threads, columns[n])
        for register, column in zip(registers, columns, strict=True):
            if register is not None:
                m.write_register(register.number, convert_bits(column, DTYPES[f"b{8 * SIZES[register.type]}"])
                                 if SIZES[register.type] != dtype.itemsize else column)
    return step


def store(instruction):
    """st: one to four numbers from registers into memory."""
    check_modifiers(instruction)
    operands = instruction.operands[1] if isinstance(instruction.operands[1], list) else [instruction.operands[1]]
    dtype = DTYPES[instruction.type]
    access = Access(instruction, instruction.operands[0], dtype.itemsize * len(operands), "writes")
    reads = [make_reader(operand, instruction.type, instruction.location) for operand in operands]
    raw, shift = RAW_DTYPES[access.width], access.width.bit_length() - 1

    def step(m):
        values = [read(m) for read in reads]
        for region, threads, position in access.record(m):
            columns = [value if threads is None or not value.ndim else value[threads] for value in values]
            if len(columns) == 1:
                data = columns[0].view(raw)
            else:
                data = np.empty((len(m.thread_ids) if threads is None else len(threads), len(columns)), dtype)
                for n, column in enumerate(columns):
                    data[:, n] = column
                data = data.view(raw)[:, 0]
            if not position.ndim and data.ndim:
                data = data[-1]
            region.view(raw)[position >> shift] = data
    return step


ATOMIC_OPERATIONS: dict[str, Any] = {
    "add": np.add, "min": np.minimum, "max": np.maximum, "and": np.bitwise_and, "or": np.bitwise_or,
    "xor": np.bitwise_xor, "exch": lambda old, new: new, "inc": lambda old, bound: 0 if old >= bound else old + 1,
    "dec": lambda old, bound: bound if old == 0 or old > bound else old - 1}


def atomic(instruction):
    """atom and red: read, modify and write, one thread after another in the order of their ids."""
    name = next((modifier for modifier in instruction.modifiers if modifier in (*ATOMIC_OPERATIONS, "cas")), None)
    unknown = set(instruction.modifiers) - NEUTRAL_MODIFIERS - {name, "noftz"}
    if name is None or unknown or instruction.type in STORAGE_TYPES:
        raise unknown_instruction(instruction)
    result = instruction.operands[0] if instruction.opcode == "atom" else None
    target, *operands = instruction.operands[1:] if instruction.opcode == "atom" else instruction.operands
    assert isinstance(target, Address)
    dtype = DTYPES[instruction.type]
    access = Access(instruction, target, dtype.itemsize, "adds to")
    reads = [make_reader(operand, instruction.type, instruction.location) for operand in operands]
    shift = dtype.itemsize.bit_length() - 1

    def step(m):
        values, old = [m.broadcast(read(m)) for read in reads], None
        for region, threads, position in access.record(m):
            active = m.thread_ids if threads is None else threads
            view, positions = region.view(dtype), np.broadcast_to(position >> shift, active.shape)
            active_values = [value[active] for value in values]
            if result is None and name in ("add", "min", "max", "and", "or", "xor"):
                ATOMIC_OPERATIONS[name].at(view, positions, active_values[0])
            else:
                old = m.scatter(apply_in_order(name, view, positions, active_values), threads, old)
        if result is not None:
            m.write_register(result.number, old)
    return step


def apply_in_order(name, view, positions, operands):
    """Apply an atomic operation to one position after another  ->  the values before"""
    previous = np.empty(len(positions), view.dtype)
    for n, position in enumerate(positions):
        old = previous[n] = view[position]
        if name == "cas":
            expected, new = (operand[n] for operand in operands)
            view[position] = new if old == expected else old
        else:
            view[position] = ATOMIC_OPERATIONS[name](old, operands[0][n])
    return previous


def cvta(instruction):
    """Convert an address of one space to a generic address, or with .to, a generic one back."""
    space = next(modifier for modifier in instruction.modifiers if modifier in SPACES)
    base = {"shared": SHARED_BASE, "local": LOCAL_BASE}.get(space, 0)
    shift = np.int64(-base if "to" in instruction.modifiers else base)
    read, register = make_reader(instruction.operands[1], "s64", instruction.location), instruction.operands[0]
    return lambda m: m.write_register(register.number, read(m) + shift)


BUILDERS = {"ld": load, "ldu": load, "st": store, "atom": atomic, "red": atomic, "cvta": cvta}
