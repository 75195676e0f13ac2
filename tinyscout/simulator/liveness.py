"""Static analysis of a kernel: the registers that are live at each instruction, and the arrays that it may address."""
from tinyscout.simulator.ptx import Address, Argument, Register

NO_RESULT = {"st", "red", "bra", "brx", "bar", "barrier", "call", "nanosleep", "cp", "prefetch", "prefetchu"}
LOADS = {"ld", "ldu", "ldmatrix", "atom"}


class Liveness:
    """live[pc]: the registers that are read at pc or later, before they are written, as a bit mask.

    pointers[pc]: the arguments that the address of the instruction at pc is computed from, as a bit mask.
    """

    def __init__(self, kernel):
        self.kernel, self.live_sets = kernel, {}
        self.defs_uses = [defs_and_uses(instruction) for instruction in kernel.instructions]
        self.live = self.compute_live()
        self.pointers = self.pointer_provenance()

    def successors(self, instruction):
        """Return the positions of the possible next instructions."""
        if instruction.opcode in ("ret", "exit") and not instruction.predicate:
            return []
        if instruction.opcode == "bra":
            target = self.kernel.labels[instruction.operands[-1]]
            return [target, instruction.pc + 1] if instruction.predicate else [target]
        if instruction.opcode == "brx":
            return [self.kernel.labels[label] for label in self.kernel.labels[instruction.operands[-1]]]
        return [instruction.pc + 1]

    def compute_live(self):
        """Backward data flow until nothing changes: live in = (live out - defs) + uses."""
        instructions = self.kernel.instructions
        successors = [self.successors(instruction) for instruction in instructions]
        live, previous = [0] * (len(instructions) + 1), None
        while live != previous:
            previous = list(live)
            for pc in range(len(instructions) - 1, -1, -1):
                defs, uses = self.defs_uses[pc]
                live_out = 0
                for successor in successors[pc]:
                    live_out |= live[successor]
                killed = 0 if instructions[pc].predicate else bit_mask(defs)        # a predicate may be false
                live[pc] = live_out & ~killed | bit_mask(uses)
        return live

    def live_in(self, positions):
        """The registers that threads at these positions will still read  ->  frozenset of indices"""
        if positions not in self.live_sets:
            mask = 0
            for pc in positions:
                mask |= self.live[pc]
            self.live_sets[positions] = frozenset(n for n in range(mask.bit_length()) if mask >> n & 1)
        return self.live_sets[positions]

    def pointer_provenance(self):
        """Trace pointers from the arguments to their uses; values loaded from memory do not count as pointers."""
        types = self.kernel.register_types
        origins, previous = [0] * len(types), None
        while origins != previous:
            previous = list(origins)
            for instruction, (defs, uses) in zip(self.kernel.instructions, self.defs_uses, strict=True):
                if instruction.opcode not in LOADS:
                    mask = self.pointer_arguments(instruction.operands)
                    for register in uses:
                        mask |= origins[register]
                    for register in defs:
                        origins[register] |= mask if types[register] in ("b64", "u64", "s64") else 0
        pointers = []
        for instruction in self.kernel.instructions:
            bases = [operand.base for operand in instruction.operands if isinstance(operand, Address)]
            if instruction.opcode == "cp":
                bases = bases[1:]               # from global memory; the first is in shared memory
            mask = self.pointer_arguments(bases)
            for base in bases:
                mask |= origins[base.number] if isinstance(base, Register) else 0
            pointers.append(mask)
        return pointers

    def pointer_arguments(self, operands):
        """The arguments among the operands that may be pointers, as a bit mask."""
        return bit_mask(operand.number for operand in operands if isinstance(operand, Argument)
                        and self.kernel.parameter_types[operand.number] in ("u64", "b64", "s64"))


def bit_mask(indices):
    mask = 0
    for index in indices:
        mask |= 1 << index
    return mask


def defs_and_uses(instruction):
    """The registers that an instruction writes, and those that it reads  ->  two lists of indices."""
    operands = list(instruction.operands)
    has_result = instruction.opcode not in NO_RESULT or (instruction.opcode in ("bar", "barrier")
                                                         and instruction.modifiers[:1] == ("red",))
    defs = registers_in(operands[:1]) if has_result and not isinstance(next(iter(operands), None), Address) else []
    uses = registers_in(operands[1:] if defs else operands)
    return defs, uses + ([instruction.predicate.number] if instruction.predicate else [])


def registers_in(operands):
    """Indices of the registers among operands, including those in addresses and in braces."""
    indices = []
    for operand in operands:
        if isinstance(operand, Register):
            indices.append(operand.number)
        elif isinstance(operand, Address):
            indices += registers_in([operand.base])
        elif isinstance(operand, list):
            indices += registers_in(operand)
    return indices
