"""A launch: the kernel made ready once, its arguments looked at, memory laid out."""
from functools import lru_cache

import numpy as np

from tinyscout.simulator.control import decode
from tinyscout.simulator.liveness import Liveness
from tinyscout.simulator.machine import Machine
from tinyscout.simulator.memory import ARRAY_GAP, FIRST_ADDRESS, LOCAL, SHARED, Region
from tinyscout.simulator.operands import KINDS
from tinyscout.simulator.ptx import MODULE, SIZES, Address, Fault, Kernel
from tinyscout.simulator.races import ShadowMemory

MAX_INSTRUCTIONS = 2_000_000               # instructions, each by a group of threads
MAX_SHARED_BYTES = 227 << 10               # bytes of a block, on the largest of the cards that we compile for
WRITING = {"st", "atom", "red"}


def run(ptx, name, grid, block, shared, arguments, *, unwritten=(), profile=None, limit=MAX_INSTRUCTIONS):
    """Run a kernel of a PTX text.  Arrays among the arguments are changed in place.

    grid, block tuples of one to three sizes; shared bytes of shared memory that the launch adds for each block;
    arguments NumPy arrays, row-major, and NumPy scalars; an array that is not writeable may only be read
    unwritten positions of arguments that hold nothing yet: to read what nobody has written is a fault
    profile a Profile that counts, or None; limit of instructions, each by a group of threads

    Raises Fault, which says in one line where in the source, which block and thread, and what is wrong.
    """
    program = decode_program(ptx, name)
    grid, block = ((*size, 1, 1)[:3] for size in (tuple(grid), tuple(block)))
    program.check_launch(grid, block, shared, arguments)
    machine = Machine(program, grid, block, profile)
    allocate_memory(machine, arguments, shared, unwritten)
    with np.errstate(all="ignore"):
        machine.run(limit)


@lru_cache(maxsize=64)
def decode_program(ptx, name):
    return Program(ptx, name)


class Program:
    """A kernel, decoded: a step for each instruction, and what is known of its memory before it runs."""

    def __init__(self, ptx, name):
        self.kernel = Kernel(ptx, name)
        self.liveness = Liveness(self.kernel)
        self.steps = [decode(instruction, self.kernel) for instruction in self.kernel.instructions]
        self.ends = [instruction.name in ("ret", "exit") and not instruction.predicate
                     for instruction in self.kernel.instructions] + [True]
        self.zeros: list = [np.zeros((), KINDS[kind])[()] for kind in self.kernel.registers]
        self.addresses = {mask.bit_length() - 1 for mask in self.liveness.pointers if mask.bit_count() == 1}
        everywhere = (1 << len(self.kernel.parameters)) - 1
        self.changed = 0                                # arguments whose arrays may be written, as bits
        self.widths: dict = {}                          # {argument: bytes of its accesses}
        self.floats: dict = {}                          # {argument: kinds of floats that are read or written}
        self.shared_widths = {16}
        for instruction, mask in zip(self.kernel.instructions, self.liveness.pointers, strict=True):
            width = access_width(instruction)
            if not width:
                continue
            if "shared" in instruction.modifiers or instruction.name == "ldmatrix" or not mask:
                self.shared_widths.add(width)
            if instruction.name in WRITING and "shared" not in instruction.modifiers and "local" not in instruction.modifiers:
                self.changed |= mask or everywhere
            for n in range(len(self.kernel.parameters)):
                if (mask or everywhere) >> n & 1:
                    self.widths.setdefault(n, {16}).add(width)
                if mask == 1 << n and instruction.kind in ("f16", "f32", "f64"):
                    self.floats.setdefault(n, set()).add(instruction.kind)

    def check_launch(self, grid, block, shared, arguments):
        """Raises Fault where the launch cannot be, or an argument is not of its parameter's type."""
        kernel = self.kernel
        threads, total = int(np.prod(block)), self.shared_bytes(shared)
        if min(grid + block) < 1 or min(grid[1:] + block) > 65535:
            raise Fault(f"launch of {kernel.name}: a grid of {grid} blocks of {block} threads")
        if threads > kernel.max_threads:
            raise Fault(f"launch of {kernel.name}: {threads} threads in a block, more than {kernel.max_threads}")
        if total > MAX_SHARED_BYTES:
            raise Fault(f"launch of {kernel.name}: {total} bytes of shared memory, more than {MAX_SHARED_BYTES}")
        if len(arguments) != len(kernel.parameters):
            raise Fault(f"launch of {kernel.name}: {len(arguments)} arguments, but it takes {len(kernel.parameters)}")
        for n, (argument, kind) in enumerate(zip(arguments, kernel.parameters, strict=True)):
            if problem := self.argument_error(n, argument, kind):
                raise Fault(f"launch of {kernel.name}: argument {n} {problem}")

    def argument_error(self, n, argument, kind):
        """What is wrong with an argument, or None."""
        if isinstance(argument, np.ndarray):
            if SIZES[kind] != 8 or kind == "f64":
                return f"is an array, but the parameter is a number, {kind}"
            if not argument.flags.c_contiguous:
                return "is not row-major: its numbers do not follow one another"
            for access in self.floats.get(n, ()):
                size, dtype = SIZES[access], argument.dtype
                if (dtype.kind == "f" and dtype.itemsize != size) or (dtype.kind in "iu" and dtype.itemsize == size):
                    return f"is an array of {dtype}, but the kernel reads or writes {access} there"
            return None
        if not isinstance(argument, np.generic):
            return f"is a {type(argument).__name__}: arguments are NumPy arrays and NumPy scalars"
        wanted = KINDS[kind]
        if argument.dtype.itemsize != SIZES[kind] or (argument.dtype.kind == "f") != (wanted.kind == "f"):
            return f"is {argument.dtype}, but the parameter is {kind}"
        if n in self.addresses and argument != 0:
            return "is a number, but the kernel uses it as an address"
        return None

    def shared_bytes(self, shared):
        return -(-self.kernel.sizes["shared"] // 16) * 16 + shared


def access_width(instruction):
    """How many bytes of memory an instruction reads or writes for each thread, 0 for none."""
    if instruction.name == "cp" and len(instruction.operands) > 1:
        return instruction.operands[2].bits
    if instruction.name == "ldmatrix":
        return 16
    if not any(isinstance(operand, Address) for operand in instruction.operands) or instruction.kind not in KINDS:
        return 0
    lists = [len(operand) for operand in instruction.operands if isinstance(operand, list)]
    return KINDS[instruction.kind].itemsize * max(lists, default=1)


def allocate_memory(m, arguments, shared, unwritten):
    """Give the machine its memory: arguments, module variables, shared and local memory."""
    kernel, clock = m.program.kernel, m.clock
    regions = [Region("nothing, an address before all arrays,", 0, np.empty(0, np.uint8))]
    for name, found, start in kernel.variables:
        if found.space in ("global", "const"):
            data = np.frombuffer(found.data.ljust(found.size, b"\0"), np.uint8).copy()
            shadow = ShadowMemory(name, found.size, 1, clock, True, True) if found.space == "global" else None
            regions.append(Region(name, MODULE + start, data, writable=found.space == "global", shadow=shadow))
    regions += allocate_arrays(m, arguments, unwritten)
    m.arguments = [argument if not isinstance(argument, np.ndarray) else np.uint64(m.arrays[n][1])
                   for n, argument in enumerate(arguments)]
    size = m.program.shared_bytes(shared)
    stride = -(-size // 128) * 128
    base = m.all_threads_mask // m.padded * stride if m.blocks > 1 else None
    shadow = ShadowMemory("shared memory", m.blocks * stride, min(m.program.shared_widths), clock, False, False)
    m.shared = Region(f"shared memory ({size} bytes)", SHARED, np.full(m.blocks * stride, 255, np.uint8), size, base,
                      shadow=shadow)
    size = -(-kernel.sizes["local"] // 16) * 16
    m.local = Region(f"local memory ({size} bytes)", LOCAL, np.full(m.size * size, 255, np.uint8), size,
                     m.all_threads_mask * size)
    m.regions = [*sorted(regions, key=lambda region: region.start), m.shared, m.local]
    m.starts = np.array([region.start for region in m.regions])
    m.special["smem"] = np.uint32(m.program.shared_bytes(0))


def allocate_arrays(m, arguments, unwritten):
    """A region for every array; arrays in the same memory share one.  m.arrays: {argument: (region, address)}"""
    at, regions = FIRST_ADDRESS, []
    seen: list = []
    order = sorted((n for n, argument in enumerate(arguments) if isinstance(argument, np.ndarray)),
                   key=lambda n: -arguments[n].nbytes)
    for n in order:
        array, first = arguments[n], arguments[n].__array_interface__["data"][0]
        within = next(((region, first - start) for region, start in seen
                       if start <= first and first + array.nbytes <= start + region.size and array.nbytes), None)
        if within is None:
            name = f"argument {n} ({array.dtype}, {array.nbytes} bytes)"
            region = Region(name, at, array.reshape(-1).view(np.uint8), writable=array.flags.writeable)
            regions.append(region)
            seen.append((region, first))
            within, at = (region, 0), at + -(-array.nbytes // 256) * 256 + ARRAY_GAP
        m.arrays[n] = within[0], within[0].start + within[1]
    for region in regions:
        sharing = [n for n in order if m.arrays[n][0] is region]
        if any(m.program.changed >> n & 1 or n in unwritten for n in sharing):
            widths = set().union(*(m.program.widths.get(n, {16}) for n in sharing))
            region.shadow = ShadowMemory(region.name, region.size, min(widths), m.clock, True,
                                         not any(n in unwritten for n in sharing))
    return regions
