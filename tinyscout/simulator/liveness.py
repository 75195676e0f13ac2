"""What can be known of a kernel before it runs: which registers are still needed, and where addresses come from."""
from tinyscout.simulator.ptx import Address, Argument, Register

NO_RESULT = {"st", "red", "bra", "brx", "bar", "barrier", "call", "nanosleep", "cp", "prefetch", "prefetchu"}
LOADS = {"ld", "ldu", "ldmatrix", "atom"}


class Liveness:
    """live[at]: registers that the instruction at that position or a later one reads, as the bits of a number.

    pointers[at]: arguments that the address of an instruction is computed from, as the bits of a number.
    """

    def __init__(self, kernel):
        self.kernel, self.live_sets = kernel, {}
        self.defs_uses = [(*defs_and_uses(instruction), instruction.predicate is not None)
                          for instruction in kernel.instructions]
        self.live = self.compute_live()
        self.pointers = self.pointer_provenance()

    def successors(self, instruction):
        """The positions that may come after an instruction."""
        after = [] if instruction.name in ("ret", "exit") and not instruction.predicate else [instruction.pc + 1]
        if instruction.name == "bra":
            after = [self.kernel.labels[instruction.operands[-1]], *([instruction.pc + 1] if instruction.predicate
                                                                     else [])]
        elif instruction.name == "brx":
            after = [self.kernel.labels[label] for label in self.kernel.labels[instruction.operands[-1]]]
        return after

    def compute_live(self):
        lines = self.kernel.instructions
        after = [self.successors(instruction) for instruction in lines]
        live, before = [0] * (len(lines) + 1), None
        while live != before:
            before = list(live)
            for at in range(len(lines) - 1, -1, -1):
                results, sources, guarded = self.defs_uses[at]
                alive = 0
                for follower in after[at]:
                    alive |= live[follower]
                live[at] = alive & ~(0 if guarded else bits(results)) | bits(sources)
        return live

    def live_in(self, positions):
        """The registers that threads at these positions will still read  ->  frozenset of indices"""
        if positions not in self.live_sets:
            alive = 0
            for at in positions:
                alive |= self.live[at]
            self.live_sets[positions] = frozenset(n for n in range(alive.bit_length()) if alive >> n & 1)
        return self.live_sets[positions]

    def pointer_provenance(self):
        """Follow addresses from the arguments to where they are used; what is loaded from memory is no address."""
        kinds = self.kernel.registers
        origin, before = [0] * len(kinds), None
        while origin != before:
            before = list(origin)
            for instruction, (results, sources, _) in zip(self.kernel.instructions, self.defs_uses, strict=True):
                if instruction.name not in LOADS:
                    found = self.arguments(instruction.operands)
                    for register in sources:
                        found |= origin[register]
                    for register in results:
                        origin[register] |= found if kinds[register] in ("b64", "u64", "s64") else 0
        used = []
        for instruction in self.kernel.instructions:
            bases = [operand.base for operand in instruction.operands if isinstance(operand, Address)]
            if instruction.name == "cp":
                bases = bases[1:]         # from global memory; the first is in shared memory
            mask = self.arguments(bases)
            for base in bases:
                mask |= origin[base.number] if isinstance(base, Register) else 0
            used.append(mask)
        return used

    def arguments(self, operands):
        """The arguments that stand among the operands themselves and may be addresses."""
        mask = 0
        for operand in operands:
            if isinstance(operand, Argument) and self.kernel.parameters[operand.number] in ("u64", "b64", "s64"):
                mask |= 1 << operand.number
        return mask


def bits(registers):
    mask = 0
    for register in registers:
        mask |= 1 << register
    return mask


def defs_and_uses(instruction):
    """The registers that an instruction writes, and those it reads  ->  two lists of indices"""
    operands = list(instruction.operands)
    gives = instruction.name not in NO_RESULT or (instruction.name in ("bar", "barrier")
                                                  and instruction.modifiers[:1] == ("red",))
    results = registers_in(operands[:1]) if gives and not isinstance(next(iter(operands), None), Address) else []
    sources = registers_in(operands[1:] if results else operands)
    return results, sources + ([instruction.predicate.number] if instruction.predicate else [])


def registers_in(operands):
    found = []
    for operand in operands:
        if isinstance(operand, Register):
            found.append(operand.number)
        elif isinstance(operand, Address):
            found += registers_in([operand.base])
        elif isinstance(operand, list):
            found += registers_in(operand)
    return found
