"""Launch a kernel: decode it once, check its arguments, allocate memory."""
from collections.abc import Collection, Sequence
from functools import lru_cache

import numpy as np

from tinyscout.simulator.control import decode
from tinyscout.simulator.liveness import Liveness
from tinyscout.simulator.machine import Machine
from tinyscout.simulator.memory import ARRAY_BASE, ARRAY_GAP, LOCAL_BASE, SHARED_BASE, Region
from tinyscout.simulator.operands import DTYPES
from tinyscout.simulator.profile import Profile
from tinyscout.simulator.ptx import MODULE_BASE, SIZES, Address, Fault, Kernel
from tinyscout.simulator.races import ShadowMemory

MAX_INSTRUCTIONS = 2_000_000            # executed in one launch, each by a group of threads
MAX_SHARED_BYTES = 227 << 10            # of a block, on the largest of the GPUs that we compile for
MAX_ACCESS = 16                         # bytes of the widest access of one thread
STORES = {"st", "atom", "red"}


def run(ptx: str, name: str, grid: Sequence[int], block: Sequence[int], shared: int,
        arguments: Sequence[np.ndarray | np.generic], *, unwritten: Collection[int] = (),
        profile: Profile | None = None, max_instructions: int = MAX_INSTRUCTIONS) -> None:
    """Run a kernel of a PTX text.  Arrays among the arguments are changed in place.

    grid, block: one to three sizes each; shared: bytes of dynamic shared memory for each block
    arguments: NumPy arrays, row-major, and NumPy scalars; an array that is not writeable may only be read
    unwritten: positions of uninitialised arguments, whose elements must be written before they are read
    profile: a Profile that counts, or None; max_instructions: limit in all, each executed by a group of threads

    Raises Fault, with the source line, the block and thread, and the error in one line.
    """
    program = decode_program(ptx, name)
    grid, block = ((*size, 1, 1)[:3] for size in (grid, block))
    program.check_launch(grid, block, shared, arguments)
    machine = Machine(program, grid, block, profile)
    allocate_memory(machine, arguments, shared, unwritten)
    with np.errstate(all="ignore"):
        machine.run(max_instructions)


@lru_cache(maxsize=64)
def decode_program(ptx, name):
    return Program(ptx, name)


class Program:
    """A decoded kernel: a step for each instruction, and static facts about its accesses to memory."""

    def __init__(self, ptx, name):
        self.kernel = Kernel(ptx, name)
        self.liveness = Liveness(self.kernel)
        self.steps = [decode(instruction, self.kernel) for instruction in self.kernel.instructions]
        self.is_exit = [instruction.opcode in ("ret", "exit") and not instruction.predicate
                        for instruction in self.kernel.instructions] + [True]
        self.zeros: list = [np.zeros((), DTYPES[ptx_type])[()] for ptx_type in self.kernel.register_types]
        self.written = 0                                # arguments whose arrays may be written, as a bit mask
        self.access_widths: dict = {}                   # {argument: bytes of the accesses to its array}
        self.float_types: dict = {}                     # {argument: types of floats that are read or written there}
        self.shared_widths = {MAX_ACCESS}               # bytes of the accesses to shared memory
        self.pointers = {mask.bit_length() - 1 for mask in self.liveness.pointers if mask.bit_count() == 1}
        for instruction, mask in zip(self.kernel.instructions, self.liveness.pointers, strict=True):
            if width := access_width(instruction):
                self.note_access(instruction, mask, width)

    def note_access(self, instruction, mask, width):
        """Record an access in the tables; mask: the arguments that its address may come from, 0 if unknown."""
        candidates = mask or (1 << len(self.kernel.parameter_types)) - 1
        if "shared" in instruction.modifiers or instruction.opcode == "ldmatrix" or not mask:
            self.shared_widths.add(width)
        if instruction.opcode in STORES and not {"shared", "local"} & set(instruction.modifiers):
            self.written |= candidates
        for n in range(len(self.kernel.parameter_types)):
            if candidates >> n & 1:
                self.access_widths.setdefault(n, {MAX_ACCESS}).add(width)
            if mask == 1 << n and instruction.type in ("f16", "f32", "f64"):
                self.float_types.setdefault(n, set()).add(instruction.type)

    def check_launch(self, grid, block, shared, arguments):
        """Raise Fault if the launch is impossible, or an argument is not of its parameter's type."""
        kernel = self.kernel
        threads, shared_bytes = int(np.prod(block)), self.shared_bytes(shared)
        if min(grid + block) < 1 or min(grid[1:] + block) > 65535:
            raise Fault(f"launch of {kernel.name}: a grid of {grid} blocks of {block} threads")
        if threads > kernel.max_threads:
            raise Fault(f"launch of {kernel.name}: {threads} threads in a block, more than {kernel.max_threads}")
        if shared_bytes > MAX_SHARED_BYTES:
            raise Fault(f"launch of {kernel.name}: {shared_bytes} bytes of shared memory, more than {MAX_SHARED_BYTES}")
        parameter_types = kernel.parameter_types
        if len(arguments) != len(parameter_types):
            raise Fault(f"launch of {kernel.name}: {len(arguments)} arguments, but it takes {len(parameter_types)}")
        for n, (argument, ptx_type) in enumerate(zip(arguments, parameter_types, strict=True)):
            if error := self.argument_error(n, argument, ptx_type):
                raise Fault(f"launch of {kernel.name}: argument {n} {error}")

    def argument_error(self, n, argument, ptx_type):
        """Return the error of an argument, or None."""
        if isinstance(argument, np.ndarray):
            if SIZES[ptx_type] != 8 or ptx_type == "f64":
                return f"is an array, but the parameter is a number, {ptx_type}"
            if not argument.flags.c_contiguous:
                return "is not row-major: its elements are not contiguous"
            for float_type in self.float_types.get(n, ()):
                size, dtype = SIZES[float_type], argument.dtype
                if (dtype.kind == "f" and dtype.itemsize != size) or (dtype.kind in "iu" and dtype.itemsize == size):
                    return f"is an array of {dtype}, but the kernel reads or writes {float_type} there"
            return None
        if not isinstance(argument, np.generic):
            return f"is a {type(argument).__name__}: arguments are NumPy arrays and NumPy scalars"
        if argument.dtype.itemsize != SIZES[ptx_type] or (argument.dtype.kind == "f") != (DTYPES[ptx_type].kind == "f"):
            return f"is {argument.dtype}, but the parameter is {ptx_type}"
        if n in self.pointers and argument != 0:
            return "is a number, but the kernel uses it as an address"
        return None

    def shared_bytes(self, dynamic):
        """Bytes of a block's shared memory: the kernel's static part, then the launch's dynamic part."""
        return round_up(self.kernel.memory_sizes["shared"], 16) + dynamic


def access_width(instruction):
    """Bytes of memory that an instruction reads or writes for each thread, 0 for none."""
    if instruction.opcode == "cp" and len(instruction.operands) > 1:
        return instruction.operands[2].bits
    if instruction.opcode == "ldmatrix":
        return 16
    if not any(isinstance(operand, Address) for operand in instruction.operands) or instruction.type not in DTYPES:
        return 0
    lengths = [len(operand) for operand in instruction.operands if isinstance(operand, list)]
    return DTYPES[instruction.type].itemsize * max(lengths, default=1)


def allocate_memory(m, arguments, shared, unwritten):
    """Allocate the machine's memory: arrays, module variables, shared and local memory."""
    kernel, clock = m.program.kernel, m.clock
    regions = [Region("nothing, an address before all arrays,", 0, np.empty(0, np.uint8))]
    for name, variable, start in kernel.variables:
        if variable.space in ("global", "const"):
            data = np.frombuffer(variable.data.ljust(variable.size, b"\0"), np.uint8).copy()
            is_global = variable.space == "global"
            shadow = ShadowMemory(name, variable.size, 1, clock, True, True) if is_global else None
            regions.append(Region(name, MODULE_BASE + start, data, writable=is_global, shadow=shadow))
    regions += allocate_arrays(m, arguments, unwritten)
    m.arguments = [argument if not isinstance(argument, np.ndarray) else np.uint64(m.arrays[n][1])
                   for n, argument in enumerate(arguments)]
    size = m.program.shared_bytes(shared)
    stride = round_up(size, 128)
    base = m.thread_ids // m.block_stride * stride if m.block_count > 1 else None
    shadow = ShadowMemory("shared memory", m.block_count * stride, min(m.program.shared_widths), clock, False, False)
    m.shared = Region(f"shared memory ({size} bytes)", SHARED_BASE, np.full(m.block_count * stride, 255, np.uint8),
                      size, base, shadow=shadow)
    size = round_up(kernel.memory_sizes["local"], 16)
    m.local = Region(f"local memory ({size} bytes)", LOCAL_BASE, np.full(m.size * size, 255, np.uint8), size,
                     m.thread_ids * size)
    m.regions = [*sorted(regions, key=lambda region: region.start), m.shared, m.local]
    m.region_starts = np.array([region.start for region in m.regions])
    m.special["smem"] = np.uint32(m.program.shared_bytes(0))


def allocate_arrays(m, arguments, unwritten):
    """A region for every array; arrays in the same memory share one.  Fills m.arrays: {argument: (region, address)}"""
    address = ARRAY_BASE
    regions: list[Region] = []
    host_starts: list[int] = []                         # of the regions' arrays, in NumPy's memory
    by_size = sorted((n for n, argument in enumerate(arguments) if isinstance(argument, np.ndarray)),
                     key=lambda n: -arguments[n].nbytes)
    for n in by_size:
        array, start = arguments[n], arguments[n].__array_interface__["data"][0]
        containing = [(region, start - host_start) for region, host_start in zip(regions, host_starts, strict=True)
                      if array.nbytes and host_start <= start and start + array.nbytes <= host_start + region.size]
        if containing:
            region, offset = containing[0]
        else:
            name = f"argument {n} ({array.dtype}, {array.nbytes} bytes)"
            region = Region(name, address, array.reshape(-1).view(np.uint8), writable=array.flags.writeable)
            offset = 0
            regions.append(region)
            host_starts.append(start)
            address += round_up(array.nbytes, 256) + ARRAY_GAP
        m.arrays[n] = region, region.start + offset
    for region in regions:
        aliases = [n for n in by_size if m.arrays[n][0] is region]
        if any(m.program.written >> n & 1 or n in unwritten for n in aliases):
            widths = set().union(*(m.program.access_widths.get(n, {MAX_ACCESS}) for n in aliases))
            is_initialized = not any(n in unwritten for n in aliases)
            region.shadow = ShadowMemory(region.name, region.size, min(widths), m.clock, True, is_initialized)
    return regions


def round_up(n, multiple):
    return -(-n // multiple) * multiple
