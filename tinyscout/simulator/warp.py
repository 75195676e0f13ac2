"""Instructions in which the 32 lanes of a warp work together: shuffles, votes, reductions, matrices."""
from functools import cache
from typing import Any

import numpy as np

from tinyscout.simulator.memory import Access
from tinyscout.simulator.operands import DTYPES, from_bf16, make_reader
from tinyscout.simulator.registry import unknown_instruction

LANE = np.arange(32)
BIT = np.uint32(1) << LANE.astype(np.uint32)


def make_convergence_test(instruction, member_mask):
    """Return a function of the machine: True if all alive lanes that the mask names are at this instruction.

    If not, the group must wait for them.  It raises Fault if a lane is active that its own mask does not name.
    """
    read_mask = make_reader(member_mask, "b32", instruction.location)

    def is_converged(m):
        mask = read_mask(m)
        if mask.ndim == 0 and mask == 0xffffffff:
            return m.group.count == m.alive_count or m.are_warps_converged(m.alive_mask.reshape(-1, 32))
        masks = m.broadcast(mask).reshape(-1, 32)
        active = m.group.mask.reshape(-1, 32)
        if (unnamed := active & (masks & BIT == 0)).any():
            m.fault(instruction, np.flatnonzero(unnamed)[0],
                    f"{instruction.opcode} by a lane that its own mask does not name")
        named = np.bitwise_or.reduce(np.where(active, masks, 0), axis=1)[:, None] & BIT != 0
        return m.are_warps_converged(named & m.alive_mask.reshape(-1, 32))
    return is_converged


def shuffle(instruction):
    """shfl: read the number of another lane, and test if there is such a lane."""
    results = instruction.operands[0] if isinstance(instruction.operands[0], list) else [instruction.operands[0], None]
    mode = instruction.modifiers[-1]
    reads = [make_reader(operand, "b32", instruction.location) for operand in instruction.operands[1:4]]
    is_converged = make_convergence_test(instruction, instruction.operands[4])

    def source_lanes(b, c):
        """Return the lane that each lane reads, and whether it is in bounds; b and c as in the PTX manual."""
        segment_mask, clamp = c >> 8 & 31, c & 31
        first = LANE & segment_mask
        bound = first | (clamp & ~segment_mask)
        source = {"up": LANE - b, "down": LANE + b, "bfly": LANE ^ b, "idx": first | (b & ~segment_mask & 31)}[mode]
        in_bounds = source >= bound if mode == "up" else source <= bound
        return np.where(in_bounds, source, LANE), in_bounds

    cached_source_lanes = cache(source_lanes)

    def step(m):
        if not is_converged(m):
            return m.wait(instruction)
        value, b, c = (read(m) for read in reads)
        if b.ndim or c.ndim:
            value, b, c = (m.broadcast(operand).reshape(-1, 32) for operand in (value, b, c))
            source, in_bounds = source_lanes(b.astype(np.int64), c.astype(np.int64))
        else:
            source, in_bounds = cached_source_lanes(int(b), int(c))
        source_threads = (np.arange(0, m.size, 32)[:, None] + source).ravel()
        if m.group.threads is not None and (inactive := m.group.mask & ~m.group.mask[source_threads]).any():
            thread = np.flatnonzero(inactive)[0]
            m.fault(instruction, thread,
                    f"shuffle from {m.format_thread(source_threads[thread])}, which does not take part")
        if results[0] is not None:
            m.write_register(results[0].number, np.reshape(value, -1)[source_threads] if np.ndim(value) else value)
        if results[1] is not None:
            m.write_register(results[1].number, np.broadcast_to(in_bounds, (m.size // 32, 32)).ravel())
        return None
    return step


def warp_collective(instruction, function, source_type):
    """Return a step with one result for all lanes of a warp, or one for each lane.

    function: values (warps, 32), active (warps, 32)  ->  result (warps) or (warps, 32), or a tuple of several
    """
    is_converged = make_convergence_test(instruction, instruction.operands[-1])
    read = make_reader(instruction.operands[1], source_type, instruction.location)
    registers = instruction.operands[0] if isinstance(instruction.operands[0], list) else [instruction.operands[0]]

    def step(m):
        if not is_converged(m):
            return m.wait(instruction)
        values = m.broadcast(read(m)).reshape(-1, 32)
        results = function(values, m.group.mask.reshape(-1, 32))
        for register, result in zip(registers, results if isinstance(results, tuple) else [results], strict=False):
            if register is not None:
                shape = result.shape if result.shape[1:] == (32,) else (len(result), 1)
                m.write_register(register.number, np.broadcast_to(result.reshape(shape), values.shape).ravel())
        return None
    return step


def ballot(votes):
    """Pack the predicates of 32 lanes into bits."""
    return (votes * BIT).sum(-1, dtype=np.uint32)


def vote(instruction):
    """vote: test if all or any lanes vote yes, or if all agree; or return the lanes that vote yes."""
    def function(votes, active):
        votes, any_, all_ = votes & active, (votes & active).any(1), (votes | ~active).all(1)
        return {"all": all_, "any": any_, "uni": all_ | ~any_, "ballot": ballot(votes)}[instruction.modifiers[-1]]
    return warp_collective(instruction, function, "pred")


def match(instruction):
    """match.any: the lanes with the same number as this one; match.all: all lanes, if all have the same."""
    def function(values, active):
        equal = (values[:, :, None] == values[:, None, :]) & active[:, None, :]
        if instruction.modifiers[0] == "any":
            return ballot(equal)
        all_equal = (equal | ~active[:, None, :] | ~active[:, :, None]).all((1, 2))
        return np.where(all_equal, ballot(active), np.uint32(0)), all_equal
    return warp_collective(instruction, function, instruction.type)


REDUCTIONS = {"add": (np.add, 0), "and": (np.bitwise_and, -1), "or": (np.bitwise_or, 0), "xor": (np.bitwise_xor, 0),
              "min": (np.minimum, "max"), "max": (np.maximum, "min")}       # function, identity or limit of the type


def redux(instruction):
    """redux: reduce the numbers of all lanes to one."""
    reduction, start = REDUCTIONS[instruction.modifiers[-1]]
    dtype = DTYPES[instruction.type]
    identity: Any = np.array(getattr(np.iinfo(dtype), start) if isinstance(start, str) else start).astype(dtype)

    def function(values, active):
        return reduction.reduce(np.where(active, values, identity), axis=1, dtype=dtype)
    return warp_collective(instruction, function, instruction.type)


def activemask(instruction):
    """activemask: the lanes that run this instruction together."""
    return lambda m: m.write_register(instruction.operands[0].number,
                                      np.repeat(ballot(m.group.mask.reshape(-1, 32)), 32))


def warp_barrier(instruction):
    """bar.warp.sync: orders the lanes' accesses before it and after it."""
    is_converged = make_convergence_test(instruction, instruction.operands[0])

    def step(m):
        if not is_converged(m):
            return m.wait(instruction)
        m.clock.warp_barrier(m.group.mask.reshape(-1, 32).any(1))
        return None
    return step


def require_full_warps(m, instruction):
    """Raise Fault if not all lanes of a warp take part."""
    active = m.group.mask.reshape(-1, 32)
    partial = active.any(1) & ~active.all(1)
    if partial.any():
        m.fault(instruction, np.flatnonzero(m.group.mask & np.repeat(partial, 32))[0],
                f"{instruction.opcode} by a warp of which not all lanes take part")


def ldmatrix(instruction):
    """ldmatrix: load one, two or four 8 x 8 matrices of 16-bit elements.

    Lane 8 i + j has the address of row j of matrix i; lane l gets the two elements from column 2 (l % 4) on in row
    l / 4 of each matrix, or of its transpose.
    """
    registers = instruction.operands[0]
    if len(registers) not in (1, 2, 4) or instruction.type != "b16":
        raise unknown_instruction(instruction)
    access, lanes = Access(instruction, instruction.operands[1], 16, "reads", "shared"), 8 * len(registers)

    def step(m):
        require_full_warps(m, instruction)
        group = m.group if lanes == 32 else m.group.where(np.tile(lanes > LANE, m.size // 32))
        rows = np.zeros((m.size, 8), np.uint16)                                 # of each thread's address
        for region, threads, position in access.record(m, group):
            data = region.view(np.dtype("c16"))[position >> 4].reshape(-1, 1).view(np.uint16)
            rows[slice(None) if threads is None else threads] = data
        matrices = rows.reshape(-1, 4, 8, 8)                                    # warp, matrix, row, column
        if "trans" in instruction.modifiers:
            matrices = matrices.swapaxes(2, 3)
        pairs = np.ascontiguousarray(matrices).view(np.uint32)
        for n, register in enumerate(registers):
            m.write_register(register.number, pairs[:, n].reshape(-1))
    return step


UNPACK = {"bf16": from_bf16, "f16": lambda bits: bits.view(np.float16).astype(np.float32)}


def mma(instruction):
    """mma.m16n8: d = a b + c in one warp; a has 16 rows, b has 8 columns, and the depth follows from the registers.

    Each register of a and b has n elements.  Lane l holds rows l / 4 and l / 4 + 8 of a, the n elements from column
    n (l % 4) on, and n more half of the depth further; of b, the same elements of column l / 4; of c and d, columns
    2 (l % 4) and 2 (l % 4) + 1 of the two rows.
    """
    result_type, a_type, b_type = instruction.modifiers[-3:]
    has_known_shape = any(modifier.startswith("m16n8k") for modifier in instruction.modifiers)
    if not has_known_shape or a_type not in (*UNPACK, "s8", "u8") or result_type not in ("f32", "s32"):
        raise unknown_instruction(instruction)

    def unpack(reads, m, ptx_type):
        """The numbers in some registers as (registers, threads, numbers in a register)."""
        bits = np.stack([m.broadcast(read(m)) for read in reads])
        packed = bits[..., None].view(np.dtype(f"{'iu'[ptx_type[0] == 'u']}1") if "8" in ptx_type else np.uint16)
        return UNPACK[ptx_type](packed) if ptx_type in UNPACK else packed.astype(np.float64)    # integers exactly

    a_reads, b_reads, c_reads = (
        [make_reader(register, ptx_type, instruction.location) for register in operand]
        for operand, ptx_type in zip(instruction.operands[1:], ("b32", "b32", result_type), strict=True))

    def step(m):
        require_full_warps(m, instruction)
        a, b = unpack(a_reads, m, a_type), unpack(b_reads, m, b_type)
        halves, warps, quad_width = len(b_reads), m.size // 32, 4 * a.shape[-1]
        # axes of a: half of the depth, half of the rows, warp, row, column; of b: half of the depth, warp, column, row
        a = a.reshape(halves, 2, warps, 8, quad_width).transpose(2, 1, 3, 0, 4).reshape(warps, 16, -1)
        b = b.reshape(halves, warps, 8, quad_width).transpose(1, 2, 0, 3).reshape(warps, 8, -1)
        product = a @ b.swapaxes(1, 2)                                          # warp, row, column
        product = product.reshape(warps, 2, 8, 4, 2).transpose(1, 4, 0, 2, 3).reshape(4, -1)
        for n, (register, read_c) in enumerate(zip(instruction.operands[0], c_reads, strict=True)):
            m.write_register(register.number, (product[n] + read_c(m)).astype(DTYPES[result_type]))
    return step


BUILDERS = {"shfl": shuffle, "vote": vote, "match": match, "redux": redux, "activemask": activemask,
            "ldmatrix": ldmatrix, "mma": mma, "bar.warp": warp_barrier}
