"""Instructions in which the 32 lanes of a warp work together: shuffles, votes, matrices; and asynchronous copies."""
from functools import cache
from typing import Any

import numpy as np

from tinyscout.simulator.memory import Access
from tinyscout.simulator.operands import KINDS, from_bf16, make_reader
from tinyscout.simulator.ptx import Number
from tinyscout.simulator.registry import unknown_instruction

LANE = np.arange(32)
BIT = np.uint32(1) << LANE.astype(np.uint32)


def make_warp_sync(instruction, named):
    """A function of the machine: are all lanes that the mask names, and that have not ended, at this instruction?

    Otherwise they are waited for.  It raises Fault where a lane is here that its mask does not name.
    """
    mask = make_reader(named, "b32", instruction.location)

    def ready(m):
        value = mask(m)
        if value.ndim == 0 and value == 0xffffffff:
            return m.group.count == m.alive or m.are_warps_converged(instruction, m.living.reshape(-1, 32))
        bits = np.broadcast_to(value, m.all_threads_mask.shape).reshape(-1, 32)
        active = m.group.mask.reshape(-1, 32)
        if (wrong := active & (bits & BIT == 0)).any():
            m.fault(instruction, np.flatnonzero(wrong)[0],
                    f"{instruction.name} by a lane that its own mask does not name")
        wanted = np.bitwise_or.reduce(np.where(active, bits, 0), axis=1)[:, None] & BIT != 0
        return m.are_warps_converged(instruction, wanted & m.living.reshape(-1, 32))
    return ready


def shuffle(instruction):
    """shfl: the number that another lane holds, and whether there is such a lane."""
    results = instruction.operands[0] if isinstance(instruction.operands[0], list) else [instruction.operands[0], None]
    how = instruction.modifiers[-1]
    value, by, limits = (make_reader(operand, "b32", instruction.location) for operand in instruction.operands[1:4])
    ready = make_warp_sync(instruction, instruction.operands[4])

    def sources(by, limits):
        """The lane that each lane reads, and whether it is inside."""
        segment, clamp = limits >> 8 & 31, limits & 31
        last = (LANE & segment) | (clamp & ~segment)
        first = LANE & segment
        source = {"up": LANE - by, "down": LANE + by, "bfly": LANE ^ by, "idx": first | (by & ~segment & 31)}[how]
        inside = source >= last if how == "up" else source <= last
        return np.where(inside, source, LANE), inside

    fixed = cache(sources)

    def step(m):
        if not ready(m):
            return m.block_on(instruction)
        lanes = [value(m), by(m), limits(m)]
        if lanes[1].ndim or lanes[2].ndim:
            lanes = [np.broadcast_to(values, m.all_threads_mask.shape).reshape(-1, 32) for values in lanes]
            source, inside = sources(*(values.astype(np.int64) for values in lanes[1:]))
        else:
            source, inside = fixed(int(lanes[1]), int(lanes[2]))
        from_ = (np.arange(0, m.size, 32)[:, None] + source).ravel()
        if m.group.threads is not None and (m.group.mask & ~m.group.mask[from_]).any():
            lonely = np.flatnonzero(m.group.mask & ~m.group.mask[from_])[0]
            m.fault(instruction, lonely, f"shuffle from {m.format_thread(from_[lonely])}, which takes no part")
        if results[0] is not None:
            m.write_register(results[0].number, lanes[0] if not np.ndim(lanes[0]) else np.reshape(lanes[0], -1)[from_])
        if results[1] is not None:
            m.write_register(results[1].number, np.broadcast_to(inside, (m.size // 32, 32)).ravel())
        return None
    return step


def warp_collective(instruction, function, kind, result):
    """A step that computes from a number of every lane that takes part, and those lanes, the same for all of them."""
    ready, read = make_warp_sync(instruction, instruction.operands[-1]), make_reader(instruction.operands[1], kind,
                                                                                     instruction.location)
    registers = instruction.operands[0] if isinstance(instruction.operands[0], list) else [instruction.operands[0]]

    def step(m):
        if not ready(m):
            return m.block_on(instruction)
        values = np.broadcast_to(read(m), m.all_threads_mask.shape).reshape(-1, 32)
        found = function(values, m.group.mask.reshape(-1, 32))
        for register, column in zip(registers, found if isinstance(found, tuple) else [found], strict=False):
            if register is not None:
                shape = column.shape if column.shape[1:] == (32,) else (len(column), 1)
                m.write_register(register.number, np.broadcast_to(column.reshape(shape), values.shape).ravel())
        return None
    return step


def ballot(yes):
    """Truths of 32 lanes as bits."""
    return (yes * BIT).sum(-1, dtype=np.uint32)


def vote(instruction):
    """vote: whether all or any lanes say yes, whether they agree, or who says yes."""
    def function(yes, here):
        yes, any_, all_ = yes & active, (yes & active).any(1), (yes | ~active).all(1)
        return {"all": all_, "any": any_, "uni": all_ | ~any_, "ballot": ballot(yes)}[instruction.modifiers[-1]]
    return warp_collective(instruction, function, "pred", instruction.kind)


def match(instruction):
    """match: the lanes with the same number as mine; or all lanes, if all have the same."""
    def function(values, here):
        same = (values[:, :, None] == values[:, None, :]) & active[:, None, :]
        if instruction.modifiers[0] == "any":
            return ballot(same)
        agreed = (same | ~active[:, None, :] | ~active[:, :, None]).all((1, 2))
        return np.where(agreed, ballot(active), np.uint32(0)), agreed
    return warp_collective(instruction, function, instruction.kind, "b32")


REDUCTIONS = {"add": (np.add, 0), "and": (np.bitwise_and, -1), "or": (np.bitwise_or, 0), "xor": (np.bitwise_xor, 0),
              "min": (np.minimum, "max"), "max": (np.maximum, "min")}


def redux(instruction):
    """redux: one number from those of all lanes."""
    function, start = REDUCTIONS[instruction.modifiers[-1]]
    dtype = KINDS[instruction.kind]
    neutral: Any = np.array(getattr(np.iinfo(dtype), start) if isinstance(start, str) else start).astype(dtype)
    return warp_collective(instruction, lambda values, here: function.reduce(np.where(here, values, neutral), axis=1,
                                                                             dtype=dtype),
                           instruction.kind, instruction.kind)


def active(instruction):
    """activemask: the lanes that are here now."""
    return lambda m: m.write_register(instruction.operands[0].number,
                                      np.repeat(ballot(m.group.mask.reshape(-1, 32)), 32))


def warp_barrier(instruction):
    """bar.warp.sync: memory that lanes wrote before is seen by the others after."""
    ready = make_warp_sync(instruction, instruction.operands[0])

    def step(m):
        if not ready(m):
            return m.block_on(instruction)
        m.clock.warp_barrier(m.group.mask.reshape(-1, 32).any(1))
        return None
    return step


def require_full_warp(m, instruction):
    """Raises Fault where a warp is not complete."""
    active = m.group.mask.reshape(-1, 32)
    torn = active.any(1) & ~active.all(1)
    if torn.any():
        m.fault(instruction, np.flatnonzero(m.group.mask & np.repeat(torn, 32))[0],
                f"{instruction.name} by a warp that is not whole")


def ldmatrix(instruction):
    """ldmatrix: one, two or four 8 x 8 matrices of 16 bits.  Lane 8 i + j has the address of row j of matrix i;

    lane l gets the two numbers from column 2 (l % 4) on of row l / 4 of each, or of the transposed matrix.
    """
    registers = instruction.operands[0]
    if len(registers) not in (1, 2, 4) or instruction.kind != "b16":
        raise unknown_instruction(instruction)
    access, lanes = Access(instruction, instruction.operands[1], 16, "reads", "shared"), 8 * len(registers)

    def step(m):
        require_full_warp(m, instruction)
        group = m.group if lanes == 32 else m.group.where(np.tile(lanes > LANE, m.size // 32))
        rows = np.zeros((m.size, 8), np.uint16)
        for region, threads, position in access.record(m, group):
            rows_of = slice(None) if threads is None else threads
            rows[rows_of] = region.view(np.dtype("c16"))[position >> 4].reshape(-1, 1).view(np.uint16)
        matrices = rows.reshape(-1, 4, 8, 8)
        if "trans" in instruction.modifiers:
            matrices = matrices.swapaxes(2, 3)
        pairs = np.ascontiguousarray(matrices).view(np.uint32)
        for n, register in enumerate(registers):
            m.write_register(register.number, pairs[:, n].reshape(-1))
    return step


UNPACK = {"bf16": from_bf16, "f16": lambda bits: bits.view(np.float16).astype(np.float32)}


def mma(instruction):
    """mma.m16n8: d = a b + c in one warp; a has 16 rows, b 8 columns, and the depth is as many as there are numbers.

    Lane l holds of a the rows l / 4 and l / 4 + 8, from column l % 4 times the numbers in a register on, and again half
    of the depth further; of b column l / 4 likewise; of c and d the columns 2 (l % 4) and one more of those two rows.
    """
    (result, a, b), shaped = instruction.modifiers[-3:], any(word.startswith("m16n8k")
                                                             for word in instruction.modifiers)
    if not shaped or a not in (*UNPACK, "s8", "u8") or result not in ("f32", "s32"):
        raise unknown_instruction(instruction)
    dtype = KINDS[result]

    def numbers(registers, m, kind):
        bits = np.stack([np.broadcast_to(register(m), m.all_threads_mask.shape) for register in registers])
        parts = bits[..., None].view(np.dtype(f"{'iu'[kind[0] == 'u']}1") if "8" in kind else np.uint16)
        return UNPACK[kind](parts) if kind in UNPACK else parts.astype(np.float64)      # whole sums are exact there

    reads = [[make_reader(register, kind, instruction.location) for register in operand]
             for operand, kind in zip(instruction.operands[1:], ("b32", "b32", result), strict=True)]

    def step(m):
        require_full_warp(m, instruction)
        left, right = numbers(reads[0], m, a), numbers(reads[1], m, b)
        halves, warps, per_register = len(reads[1]), m.size // 32, left.shape[-1]
        left = left.reshape(halves, 2, warps, 8, 4 * per_register).transpose(2, 1, 3, 0, 4).reshape(warps, 16, -1)
        right = right.reshape(halves, warps, 8, 4 * per_register).transpose(1, 2, 0, 3).reshape(warps, 8, -1)
        product = left @ right.swapaxes(1, 2)
        product = product.reshape(warps, 2, 8, 4, 2).transpose(1, 4, 0, 2, 3).reshape(4, -1)
        for n, register in enumerate(instruction.operands[0]):
            m.write_register(register.number, (product[n] + reads[2][n](m)).astype(dtype))
    return step


def copy(instruction):
    """cp.async: from global to shared memory, done by the time of the wait; the rest of the size becomes zero."""
    if instruction.modifiers[:2] == ("async", "commit_group"):
        return lambda m: m.copies.commit(m)
    if instruction.modifiers[:2] in (("async", "wait_group"), ("async", "wait_all")):
        leave = instruction.operands[0].bits if instruction.operands else None
        return lambda m: m.copies.wait(m, leave)
    if instruction.modifiers[:2] not in (("async", "ca"), ("async", "cg")) or not isinstance(instruction.operands[2],
                                                                                             Number):
        raise unknown_instruction(instruction)
    size = instruction.operands[2].bits
    target = Access(instruction, instruction.operands[0], size, "writes", "shared")
    source = Access(instruction, instruction.operands[1], size, "reads", "global")
    amount = make_reader(instruction.operands[3] if len(instruction.operands) > 3 else instruction.operands[2], "u32",
                         instruction.location)

    def step(m):
        if (amount(m) > size).any():
            m.fault(instruction, m.first_active_thread(), f"an asynchronous copy of more than {size} bytes")
        sizes = np.broadcast_to(amount(m), m.all_threads_mask.shape)
        data = np.zeros((m.size, size), np.uint8)
        if (copying := m.group.where(sizes > 0)).count:
            for region, threads, position in source.record(m, copying):
                who = m.all_threads_mask if threads is None else threads
                data[who] = region.data[np.broadcast_to(position, who.shape)[:, None] + np.arange(size)]
        data[np.arange(size) >= sizes[:, None]] = 0
        [(region, threads, position)] = target.record(m)
        who = m.all_threads_mask if threads is None else threads
        m.copies.begin(instruction, region, who, np.broadcast_to(position, who.shape), data[who])
    return step


class AsyncCopies:
    """The asynchronous copies that are under way, and how often each thread has committed."""

    def __init__(self, size):
        self.commits, self.waiting = np.zeros(size, np.int32), []

    def begin(self, instruction, region, threads, position, data):
        region.data[position[:, None] + np.arange(data.shape[1])] = 255
        region.shadow.mark_filling(position, data.shape[1], True)
        self.waiting.append((instruction, region, threads, position, data, self.commits[threads]))

    def commit(self, m):
        self.commits[m.group.mask] += 1

    def wait(self, m, leave):
        """Finish the copies of the active threads, all or all but the last committed groups."""
        left = []
        for instruction, region, threads, position, data, group in self.waiting:
            done = m.group.mask[threads]
            if leave is not None:
                done = done & (group < self.commits[threads] - leave)
            if done.any():
                region.data[position[done, None] + np.arange(data.shape[1])] = data[done]
                region.shadow.mark_filling(position[done], data.shape[1], False)
                region.shadow.check_access(m, instruction, "writes", position[done], data.shape[1], threads[done])
            if not done.all():
                left.append((instruction, region, *(each[~done] for each in (threads, position, data, group))))
        self.waiting = left


TABLE = {"shfl": shuffle, "vote": vote, "match": match, "redux": redux, "activemask": active, "ldmatrix": ldmatrix,
         "mma": mma, "cp": copy, "bar.warp": warp_barrier}
