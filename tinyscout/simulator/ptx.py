"""Parse PTX text into a list of instructions, with names resolved and functions inlined.

PTX is the output of NVIDIA's compiler before a GPU is chosen: an unlimited number of typed registers, one instruction
per statement, and `.loc` directives with the line of the .cu file that it comes from.
"""
import re
from collections import ChainMap
from math import prod
from typing import NamedTuple


class Fault(RuntimeError):
    """An error in a kernel: the source line, the block and thread, and the cause."""


class Register(NamedTuple):
    number: int
    type: str                   # pred, b16, b32, f32, b64 ...
    negated: bool = False       # of a predicate: !%p1


class Special(NamedTuple):
    name: str                   # %tid.x ...; or smem: the start address of the launch's dynamic shared memory


class Argument(NamedTuple):
    number: int                 # of the kernel's arguments


class Immediate(NamedTuple):
    bits: int
    type: str = ""              # f32 or f64 if it is written as a float


class Address(NamedTuple):
    base: tuple                 # any of the above
    offset: int                 # bytes


class Instruction(NamedTuple):
    opcode: str                 # ld
    modifiers: tuple            # ("global", "v4")
    type: str                   # f32
    operands: tuple             # of the classes above, None for _, a list for those in braces
    predicate: Register | None  # @%p1
    pc: int                     # its own position
    location: str               # norm.cu:17

    def __str__(self):
        return ".".join(filter(None, (self.opcode, *self.modifiers, self.type)))


class Variable(NamedTuple):
    space: str                  # global, const, shared or local
    align: int
    size: int                   # bytes; 0 if the launch decides
    data: bytes


SIZES = {f"{sign}{bits}": bits // 8 for sign in "bsuf" for bits in (8, 16, 32, 64)}
SIZES |= {"pred": 0, "bf16": 2, "f16x2": 4, "bf16x2": 4, "b128": 16}
MODULE_BASE = 1 << 16           # the address of a module's first variable; arrays come far above
MAX_CALL_DEPTH = 30             # of nested function calls

VARIABLE = re.compile(r"(?:\.(?:visible|extern|weak|common)\s+)*\.(global|const|shared|local)\s+(?:\.align\s+(\d+)\s+)?"
                      r"\.(\w+)\s+([\w$]+)\s*((?:\[\d*\])*)\s*(?:=\s*\{?([^;}]*)\}?)?")
FUNCTION = re.compile(r"\.(?:entry|func)\s*(?:\(([^)]*)\))?\s*([\w$]+)\s*(?:\(([^)]*)\))?([^;{}()]*)\{")
PARAMETER = re.compile(r"\.param\s+(?:\.align\s+\d+\s+)?\.(\w+)[^,]*?([\w$]+)\s*(?:\[\d*\])?\s*(?:,|$)")
STATEMENT = re.compile(r"(?:@(!?)(%[\w$]+)\s+)?([a-z][\w.:]*)\s*(.*)", re.S)
OPERAND = re.compile(r"\{[^}]*\}|\[[^\]]*\]|\([^)]*\)|[^,\s{\[(][^,]*")


class Kernel:
    """One kernel of a module: its instructions, the types of its registers and parameters, the memory it declares."""

    def __init__(self, text, name):
        text = re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.S)
        text = re.sub(r"^([ \t]*\.(?:loc|file)\b[^\n]*)$", r"\1;", text, flags=re.M)
        self.files = {n: path.rpartition("/")[2] for n, path in re.findall(r'\.file\s+(\d+)\s+"([^"]*)"', text)}
        self.functions, module_text = {}, text              # {name: (match of its header, body)}; text outside of them
        for match in FUNCTION.finditer(text):
            body = between_braces(text, match.end())
            self.functions[match[2]] = (match, body)
            module_text = module_text.replace(body, "")
        if name not in self.functions:
            raise ValueError(f"no kernel {name}, only {', '.join(self.functions) or 'an empty module'}")
        self.name, self.instructions, self.register_types, self.labels = name, [], [], {}
        self.variables, self.offsets, self.memory_sizes = [], {}, {"shared": 0, "local": 0, "module": 0}
        self.param_registers, self.call_count, self.call_depth, self.location = {}, 0, 0, "?"
        symbols = {match[4]: parse_variable(match) for match in VARIABLE.finditer(module_text)}
        header, body = self.functions[name]
        self.kernel_file = (re.search(r"\.loc\s+(\d+)", body) or ["", ""])[1]       # number of the kernel's own file
        parameters = PARAMETER.findall(header[3] or "")
        self.parameter_types = [ptx_type for ptx_type, _ in parameters]
        max_block = re.search(r"\.(?:maxntid|reqntid)\s+([\d, ]+)", header[4])
        self.max_threads = prod(int(n) for n in max_block[1].split(",")) if max_block else 1024
        arguments = {parameter: Argument(n) for n, (_, parameter) in enumerate(parameters)}
        self.inline_function(body, ChainMap(arguments, symbols))
        self.emit("exit", (), "", (), None)

    def inline_function(self, body, scope):
        """Parse the statements of a function.

        scope: {name: Register, Variable, Argument, or (call, name) for a parameter of a call}
        """
        self.call_count += 1
        call, label = self.call_count, ""
        for statement in body.split(";"):
            while match := re.match(r"\s*(?:([{}])|([\w$]+):(?!:))", statement):
                statement = statement[match.end():]
                if match[2]:
                    label = f"{call}:{match[2]}"
                    self.labels[label] = len(self.instructions)
                else:
                    scope = scope.new_child() if match[1] == "{" else scope.parents
            if (statement := statement.strip()).startswith(".branchtargets"):
                self.labels[label] = [f"{call}:{target.strip()}" for target in statement.split(None, 1)[1].split(",")]
            elif statement.startswith("."):
                self.parse_directive(statement, scope)
            elif statement:
                self.parse_instruction(statement, scope, call)
        self.labels[f"{call}:end"] = len(self.instructions)

    def parse_directive(self, statement, scope):
        """Declare registers or a variable, or set the source location of the instructions that follow."""
        if match := re.match(r"\.reg\s+\.(\w+)\s+(.*)", statement, re.S):
            for declaration in match[2].split(","):
                prefix, _, count = declaration.strip().rstrip(">").partition("<")
                for name in [f"{prefix}{n}" for n in range(int(count))] if count else [prefix]:
                    scope[name] = self.new_register(match[1])
        elif match := VARIABLE.match(statement):
            scope[match[4]] = parse_variable(match)
        elif match := re.match(r"\.loc\s+(\d+)\s+(\d+)\s+\d+(?:.*inlined_at\s+(\d+)\s+(\d+))?", statement):
            locations = [(file, line) for file, line in [match.group(1, 2), match.group(3, 4)] if file and line != "0"]
            in_kernel_file = [location for location in locations if location[0] == self.kernel_file]
            if in_kernel_file or (locations and self.location == "?"):
                file, line = (in_kernel_file or locations)[0]       # the kernel's own line rather than a header's
                self.location = f"{self.files.get(file, '?')}:{line}"

    def parse_instruction(self, statement, scope, call):
        """Emit one instruction.  Passing arguments to a function becomes moves, and a call is inlined."""
        match = STATEMENT.match(statement)
        if match is None:
            raise Fault(f"{self.location}: the simulator does not know the PTX statement {statement}")
        negated, predicate, dotted, operand_text = match.groups()
        predicate = scope[predicate]._replace(negated=bool(negated)) if predicate else None
        opcode, *modifiers = dotted.split(".")
        texts = OPERAND.findall(operand_text)
        ptx_type = modifiers.pop() if modifiers and modifiers[-1] in SIZES else ""
        if opcode == "call":
            return self.inline_call(texts, scope, predicate)
        if opcode == "ret" and self.call_depth:
            return self.emit("bra", (), "", [f"{call}:end"], predicate)
        if opcode in ("bra", "brx"):
            operands = [self.parse_operand(text, scope) for text in texts[:-1]]
            return self.emit(opcode, modifiers, ptx_type, [*operands, f"{call}:{texts[-1].strip()}"], predicate)
        if opcode in ("ld", "st") and modifiers[:1] == ["param"]:
            [address] = [text for text in texts if text[0] == "["]
            [registers] = [text for text in texts if text[0] != "["]
            for n, text in enumerate(registers.strip("{}").split(",")):
                pair = [self.parse_operand(text.strip(), scope),
                        self.resolve_parameter(address, n * SIZES[ptx_type], ptx_type, scope)]
                self.emit("mov", (), ptx_type, pair if opcode == "ld" else pair[::-1], predicate)
            return None
        operands = [self.parse_operand(text.strip(), scope) for text in texts]
        return self.emit(opcode, modifiers, ptx_type, operands, predicate)

    def inline_call(self, texts, scope, predicate):
        """Inline a function, with its parameters bound to the caller's arguments."""
        callee = next((text for text in texts if text[0] != "("), texts[0]).strip()
        if callee not in self.functions or predicate or self.call_depth == MAX_CALL_DEPTH:
            return self.emit("call", (callee,), "", (), predicate)
        header, body = self.functions[callee]
        formals = [name for _, name in PARAMETER.findall(f"{header[1] or ''},{header[3] or ''}".strip(","))]
        actuals = [name.strip() for text in texts if text[0] == "(" for name in text[1:-1].split(",") if name.strip()]
        bindings = {formal: scope.get(actuals[n], (self.call_count, actuals[n])) for n, formal in enumerate(formals)}
        for name in actuals:
            scope.setdefault(name, (self.call_count, name))
        call_site, self.call_depth = self.location, self.call_depth + 1
        self.inline_function(body, ChainMap(bindings, scope.maps[-1]))
        self.location, self.call_depth = call_site, self.call_depth - 1
        return None

    def resolve_parameter(self, text, offset, ptx_type, scope):
        """Resolve `offset` bytes after [name+8]: an Argument of the kernel, or a Register that a caller sets."""
        name, _, start = text.strip("[] ").partition("+")
        symbol = scope.setdefault(name, (self.call_count, name))
        if isinstance(symbol, Argument):
            return symbol
        key = (*symbol, int(start or 0) + offset, SIZES[ptx_type])
        if key not in self.param_registers:
            self.param_registers[key] = self.new_register(ptx_type)
        return self.param_registers[key]

    def parse_operand(self, text, scope):
        """Parse one operand into an object of the classes above."""
        if text[0] == "{":
            return [self.parse_operand(item.strip(), scope) for item in text[1:-1].split(",")]
        if text[0] == "[":
            base, _, offset = text[1:-1].replace(" ", "").partition("+")
            return Address(self.parse_operand(base, scope), int(offset or "0", 0))
        if "|" in text:
            return [self.parse_operand(item.strip(), scope) for item in text.split("|")]
        if text[0] == "!":
            return scope[text[1:].strip()]._replace(negated=True)
        if text == "_":
            return None
        if match := re.fullmatch(r"0([fFdD])([0-9a-fA-F]+)", text):
            return Immediate(int(match[2], 16), "f32" if match[1] in "fF" else "f64")
        if re.fullmatch(r"-?\d\w*", text):
            return Immediate(int(text.rstrip("U"), 0))
        if text == "WARP_SZ":
            return Immediate(32)
        if text[0] == "%" and text not in scope:
            return Special(text)
        return scope[text] if isinstance(scope[text], Register) else self.address_of(text, scope[text])

    def address_of(self, name, variable):
        """Return the address of a variable; memory is allocated for it at its first use."""
        if variable.space == "shared" and not variable.size:
            return Special("smem")
        if id(variable) not in self.offsets:
            space = variable.space if variable.space in self.memory_sizes else "module"
            start = -(-self.memory_sizes[space] // variable.align) * variable.align
            self.offsets[id(variable)], self.memory_sizes[space] = start, start + variable.size
            self.variables.append((name, variable, start))          # referenced, so that its id is not used again
        return Immediate(self.offsets[id(variable)] + (MODULE_BASE if variable.space in ("global", "const") else 0))

    def new_register(self, ptx_type):
        self.register_types.append(ptx_type)
        return Register(len(self.register_types) - 1, ptx_type)

    def emit(self, opcode, modifiers, ptx_type, operands, predicate):
        pc = len(self.instructions)
        self.instructions.append(Instruction(opcode, tuple(modifiers), ptx_type, tuple(operands), predicate, pc,
                                             self.location))


def between_braces(text, start):
    """The text between the brace before start and the one that closes it."""
    depth = 1
    for brace in re.finditer(r"[{}]", text[start:]):
        depth += 1 if brace[0] == "{" else -1
        if not depth:
            return text[start:start + brace.start()]
    raise ValueError("the PTX text is truncated")


def parse_variable(match):
    """Parse a declaration that VARIABLE matches  ->  Variable, with its initial value if it has one."""
    space, align, ptx_type, _, dims, values = match.groups()
    length = prod(int(dim or 0) for dim in re.findall(r"\[(\d*)\]", dims)) if dims else 1
    size = SIZES[ptx_type]
    numbers = [int(re.sub("^0[fFdD]", "0x", value.strip()), 0) for value in (values or "").split(",") if value.strip()]
    data = b"".join((number % (1 << 8 * size)).to_bytes(size, "little") for number in numbers)
    return Variable(space, int(align or size), length * size, data)
