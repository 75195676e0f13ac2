"""PTX text becomes a list of instructions: names looked up, functions pasted in where they are called.

PTX is what NVIDIA's compiler makes of a kernel before a card is chosen: any number of typed registers, one instruction
a statement, and `.loc` marks that say which line of the .cu file it came from.
"""
import re
from collections import ChainMap
from math import prod
from typing import NamedTuple


class Fault(RuntimeError):
    """A kernel does what it must not: where in the source, which block and thread, and what."""


class Register(NamedTuple):
    number: int
    kind: str                   # pred, b16, b32, f32, b64 ...
    negated: bool = False       # of a predicate: !%p1


class Special(NamedTuple):
    name: str                   # %tid.x, or smem: where the launch's own shared memory begins


class Argument(NamedTuple):
    number: int                  # of the kernel


class Number(NamedTuple):
    bits: int
    kind: str = ""              # f32 or f64 where it is written as such


class Address(NamedTuple):
    base: tuple                 # any of the above
    offset: int


class Instruction(NamedTuple):
    name: str                   # ld
    modifiers: tuple            # ("global", "v4")
    kind: str                   # f32
    operands: tuple             # of the classes above, None for _, a list for those in braces
    predicate: Register | None
    pc: int                     # its own position
    location: str               # norm.cu:17

    def __str__(self):
        return ".".join(filter(None, (self.name, *self.modifiers, self.kind)))


class Variable(NamedTuple):
    space: str                  # global, const, shared or local
    align: int
    size: int                   # bytes; 0 where the launch decides
    data: bytes


SIZES = {f"{sign}{bits}": bits // 8 for sign in "bsuf" for bits in (8, 16, 32, 64)}
SIZES |= {"pred": 0, "bf16": 2, "f16x2": 4, "bf16x2": 4, "b128": 16}
MODULE = 1 << 16                # the address of a module's first variable; arrays come far above
MAX_CALL_DEPTH = 30             # functions that call one another

VARIABLE = re.compile(r"(?:\.(?:visible|extern|weak|common)\s+)*\.(global|const|shared|local)\s+(?:\.align\s+(\d+)\s+)?"
                      r"\.(\w+)\s+([\w$]+)\s*((?:\[\d*\])*)\s*(?:=\s*\{?([^;}]*)\}?)?")
FUNCTION = re.compile(r"\.(?:entry|func)\s*(?:\(([^)]*)\))?\s*([\w$]+)\s*(?:\(([^)]*)\))?([^;{}()]*)\{")
PARAMETER = re.compile(r"\.param\s+(?:\.align\s+\d+\s+)?\.(\w+)[^,]*?([\w$]+)\s*(?:\[\d*\])?\s*(?:,|$)")
STATEMENT = re.compile(r"(?:@(!?)(%[\w$]+)\s+)?([a-z][\w.:]*)\s*(.*)", re.S)
OPERAND = re.compile(r"\{[^}]*\}|\[[^\]]*\]|\([^)]*\)|[^,\s{\[(][^,]*")


class Kernel:
    """One kernel of a module: instructions, kinds of registers and parameters, and what memory it declares."""

    def __init__(self, text, name):
        text = re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.S)
        text = re.sub(r"^([ \t]*\.(?:loc|file)\b[^\n]*)$", r"\1;", text, flags=re.M)
        self.files = {n: path.rpartition("/")[2] for n, path in re.findall(r'\.file\s+(\d+)\s+"([^"]*)"', text)}
        self.functions, outside = {}, text
        for found in FUNCTION.finditer(text):
            body = between_braces(text, found.end())
            self.functions[found[2]] = (found, body)
            outside = outside.replace(body, "")
        if name not in self.functions:
            raise ValueError(f"there is no kernel {name}, only {', '.join(self.functions) or 'an empty module'}")
        self.name, self.instructions, self.registers, self.labels = name, [], [], {}
        self.variables, self.offsets, self.sizes = [], {}, {"shared": 0, "local": 0, "module": 0}
        self.passed, self.calls, self.depth, self.location = {}, 0, 0, "?"
        symbols = {found[4]: parse_variable(found) for found in VARIABLE.finditer(outside)}
        found, body = self.functions[name]
        self.home = (re.search(r"\.loc\s+(\d+)", body) or ["", ""])[1]      # the file that the kernel stands in
        self.parameters = [kind for kind, _ in PARAMETER.findall(found[3] or "")]
        bound = re.search(r"\.(?:maxntid|reqntid)\s+([\d, ]+)", found[4])
        self.max_threads = prod(int(n) for n in bound[1].split(",")) if bound else 1024
        arguments = {name: Argument(n) for n, (_, name) in enumerate(PARAMETER.findall(found[3] or ""))}
        self.inline_function(body, ChainMap(arguments, symbols))
        self.emit("exit", (), "", (), None)

    def inline_function(self, body, names):
        """The statements of a function; a name is a register, a variable, or a parameter that is passed."""
        self.calls += 1
        call, label = self.calls, ""
        for statement in body.split(";"):
            while found := re.match(r"\s*(?:([{}])|([\w$]+):(?!:))", statement):
                statement = statement[found.end():]
                if found[2]:
                    label = f"{call}:{found[2]}"
                    self.labels[label] = len(self.instructions)
                else:
                    names = names.new_child() if found[1] == "{" else names.parents
            if (statement := statement.strip()).startswith(".branchtargets"):
                self.labels[label] = [f"{call}:{target.strip()}" for target in statement.split(None, 1)[1].split(",")]
            elif statement.startswith("."):
                self.declare(statement, names)
            elif statement:
                self.parse_instruction(statement, names, call)
        self.labels[f"{call}:end"] = len(self.instructions)

    def declare(self, statement, names):
        """A directive: registers, a variable, or the line of the source from here on."""
        if found := re.match(r"\.reg\s+\.(\w+)\s+(.*)", statement, re.S):
            for name in found[2].split(","):
                stem, _, many = name.strip().rstrip(">").partition("<")
                for register_name in [f"{stem}{n}" for n in range(int(many))] if many else [stem]:
                    names[register_name] = self.register(found[1])
        elif found := VARIABLE.match(statement):
            names[found[4]] = parse_variable(found)
        elif found := re.match(r"\.loc\s+(\d+)\s+(\d+)\s+\d+(?:.*inlined_at\s+(\d+)\s+(\d+))?", statement):
            locations = [(file, line) for file, line in [found.group(1, 2), found.group(3, 4)] if file and line != "0"]
            at_home = [location for location in locations if location[0] == self.home]
            if at_home or (locations and self.location == "?"):           # a header's line says less than who called it
                file, line = (at_home or locations)[0]
                self.location = f"{self.files.get(file, '?')}:{line}"

    def parse_instruction(self, statement, names, call):
        """One instruction.  Passing arguments to functions becomes moves, and a call the function itself."""
        found = STATEMENT.match(statement)
        if found is None:
            raise Fault(f"{self.location}: the simulator does not know the PTX statement {statement}")
        negated, predicate, opcode, rest = found.groups()
        predicate = names[predicate]._replace(negated=bool(negated)) if predicate else None
        name, *modifiers = opcode.split(".")
        texts = OPERAND.findall(rest)
        kind = modifiers.pop() if modifiers and modifiers[-1] in SIZES else ""
        if name == "call":
            return self.call(texts, names, predicate)
        if name == "ret" and self.depth:
            return self.emit("bra", (), "", [f"{call}:end"], predicate)
        if name in ("bra", "brx"):
            targets = [f"{call}:{texts[-1].strip()}"]
            return self.emit(name, modifiers, kind, [*(self.operand(text, names) for text in texts[:-1]), *targets],
                             predicate)
        if name in ("ld", "st") and modifiers[:1] == ["param"]:
            registers, [place] = sorted(texts, key=lambda text: text[0] == "[")[:-1], [t for t in texts if t[0] == "["]
            for n, text in enumerate(registers[0].strip("{}").split(",")):
                pair = [self.operand(text.strip(), names), self.parameter(place, n * SIZES[kind], kind, names)]
                self.emit("mov", (), kind, pair if name == "ld" else pair[::-1], predicate)
            return None
        return self.emit(name, modifiers, kind, [self.operand(text.strip(), names) for text in texts], predicate)

    def call(self, texts, names, predicate):
        """Paste a function, its parameters bound to what the caller passes."""
        formal = next((n for n, text in enumerate(texts) if text[0] != "("), 0)
        callee = texts[formal].strip()
        if callee not in self.functions or predicate or self.depth == MAX_CALL_DEPTH:
            return self.emit("call", (callee,), "", (), predicate)
        found, body = self.functions[callee]
        formal_names = [name for _, name in PARAMETER.findall(f"{found[1] or ''},{found[3] or ''}".strip(","))]
        passed_names = [name.strip() for text in texts if text[0] == "(" for name in text[1:-1].split(",")
                        if name.strip()]
        bound = {name: names.get(passed_names[n], (self.calls, passed_names[n])) for n, name in enumerate(formal_names)}
        for name in passed_names:
            names.setdefault(name, (self.calls, name))
        caller, self.depth = self.location, self.depth + 1
        self.inline_function(body, ChainMap(bound, names.maps[-1]))
        self.location, self.depth = caller, self.depth - 1
        return None

    def parameter(self, text, more, kind, names):
        """What a parameter's place [name+8] stands for: an argument of the kernel, or what a caller passes."""
        name, _, offset = text.strip("[] ").partition("+")
        where = names.setdefault(name, (self.calls, name))
        if isinstance(where, Argument):
            return where
        key = (*where, int(offset or 0) + more, SIZES[kind])
        if key not in self.passed:
            self.passed[key] = self.register(kind)
        return self.passed[key]

    def operand(self, text, names):
        """One operand as an object of the classes above."""
        if text[0] == "{":
            return [self.operand(part.strip(), names) for part in text[1:-1].split(",")]
        if text[0] == "[":
            base, _, offset = text[1:-1].replace(" ", "").partition("+")
            return Address(self.operand(base, names), int(offset or "0", 0))
        if "|" in text:
            return [self.operand(part.strip(), names) for part in text.split("|")]
        if text[0] == "!":
            return names[text[1:].strip()]._replace(negated=True)
        if text == "_":
            return None
        if found := re.fullmatch(r"0([fFdD])([0-9a-fA-F]+)", text):
            return Number(int(found[2], 16), "f32" if found[1] in "fF" else "f64")
        if re.fullmatch(r"-?\d\w*", text):
            return Number(int(text.rstrip("U"), 0))
        if text == "WARP_SZ":
            return Number(32)
        if text[0] == "%" and text not in names:
            return Special(text)
        return names[text] if isinstance(names[text], Register) else self.address_of(text, names[text])

    def address_of(self, name, found):
        """Where a variable lies; it gets its place when it is first met."""
        if found.space == "shared" and not found.size:
            return Special("smem")
        if id(found) not in self.offsets:
            space = found.space if found.space in self.sizes else "module"
            start = -(-self.sizes[space] // found.align) * found.align
            self.offsets[id(found)], self.sizes[space] = start, start + found.size
            self.variables.append((name, found, start))             # kept alive: its id stands for it
        return Number(self.offsets[id(found)] + (MODULE if found.space in ("global", "const") else 0))

    def register(self, kind):
        self.registers.append(kind)
        return Register(len(self.registers) - 1, kind)

    def emit(self, name, modifiers, kind, operands, predicate):
        pc = len(self.instructions)
        self.instructions.append(Instruction(name, tuple(modifiers), kind, tuple(operands), predicate, pc,
                                             self.location))


def between_braces(text, start):
    """What stands between the brace before start and its partner."""
    depth = 1
    for brace in re.finditer(r"[{}]", text[start:]):
        depth += 1 if brace[0] == "{" else -1
        if not depth:
            return text[start:start + brace.start()]
    raise ValueError("the PTX text is cut off")


def parse_variable(found):
    """A variable's declaration, with its first value where one is given."""
    space, align, kind, _, sides, values = found.groups()
    size = prod(int(side or 0) for side in re.findall(r"\[(\d*)\]", sides)) if sides else 1
    width = SIZES[kind]
    numbers = [int(re.sub("^0[fFdD]", "0x", value.strip()), 0) for value in (values or "").split(",") if value.strip()]
    data = b"".join((number % (1 << 8 * width)).to_bytes(width, "little") for number in numbers)
    return Variable(space, int(align or width), size * width, data)
