"""Compile a CUDA kernel without a GPU: NVIDIA's own compiler, the wheel nvidia-cuda-nvrtc, through ctypes.

What was compiled is kept on disk under a name made of all it depends on, so that a kernel is compiled once.
"""
import ctypes
import hashlib
import json
import os
import re
import tempfile
from functools import cache
from importlib import metadata
from pathlib import Path

WHEEL = "nvidia-cuda-nvrtc"
COMPILER_OPTIONS = ("--std=c++17", "-lineinfo", "--ptxas-options=-v")
PTX_ARCH = "compute_80"          # what the simulator runs: the virtual architecture of sm_80
SOURCE_DIR = next((up / "csrc/cuda" for up in Path(__file__).resolve().parents if (up / "csrc/cuda").is_dir()), None)


class CompileError(RuntimeError):
    """A kernel does not compile, or there is no compiler: one line, with file and line where it is the kernel."""


def ptx(path):
    """The kernels of a .cu file as PTX text for the virtual architecture of sm_80.

    Raises OSError where the file cannot be read, CompileError where it does not compile.
    """
    return compile_cached(path, PTX_ARCH)[0].decode()


def cubin(path, arch):
    """The kernels of a .cu file as machine code for one architecture: sm_80, sm_90, sm_90a ...  ->  bytes

    Raises OSError where the file cannot be read, CompileError where it does not compile.
    """
    return compile_cached(path, arch)[0]


def resource_usage(path, arch):
    """What the kernels of a .cu file need of each thread  ->  {name: (registers, bytes spilled to memory)}

    Raises as cubin.
    """
    text = compile_cached(path, arch)[1]
    found = re.finditer(r"entry function '(\w+)'.*?(\d+) bytes spill stores.*?Used (\d+) registers", text, re.S)
    return {kernel[1]: (int(kernel[3]), int(kernel[2])) for kernel in found}


def compile_cached(path, arch):
    """The code for an architecture, from the cache or else from the compiler  ->  code bytes, log of the assembler"""
    path = Path(path).resolve()
    found = find_wheel()
    parts = [found.version, arch, *COMPILER_OPTIONS, str(path), *(part for file in read_sources(path) for part in file)]
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    place = cache_dir() / f"{path.stem}-{arch}-{digest[:32]}"
    if (kept := read_cached(place)) is None:
        write_cached(place, *(kept := Compiler(found).compile(path, arch)))
    return kept


def read_sources(path):
    """Every file that goes into a kernel: itself and the headers beside it, or in csrc/cuda  ->  [(name, text)]"""
    found, wanted = {}, [path]
    for file in wanted:
        if file not in found:
            found[file] = file.read_text(encoding="utf-8", errors="replace")
            wanted += [header for name in re.findall(r'^\s*#\s*include\s+"([^"]+)"', found[file], re.M)
                       for header in [(place / name).resolve() for place in include_dirs(file)] if header.is_file()]
    return [(str(file), text) for file, text in found.items()]


def include_dirs(path):
    return [path.parent, *([SOURCE_DIR] if SOURCE_DIR else [])]


@cache
def find_wheel():
    """The installed compiler.  Raises CompileError where there is none."""
    try:
        return metadata.distribution(WHEEL)
    except metadata.PackageNotFoundError:
        raise CompileError(f"CUDA kernels need NVIDIA's compiler, the wheel {WHEEL} (Linux and Windows): "
                           "pip install 'tinyscout[cuda]'") from None


class Compiler:
    """The library NVRTC, which answers 0 where all is well."""

    def __init__(self, found):
        self.version, self.library = found.version, load_library(found)

    def compile(self, path, arch):
        """path of a .cu file, arch compute_80 for PTX or sm_80 for machine code  ->  code bytes, log text"""
        call, program = self.library, ctypes.c_void_p()
        options = [f"-arch={arch}", *COMPILER_OPTIONS, *(f"-I{place}" for place in include_dirs(path)),
                   f"--use-bundled-headers={headers_dir(self.version)}"]
        words = (ctypes.c_char_p * len(options))(*(os.fsencode(option) for option in options))
        call.nvrtcCreateProgram(ctypes.byref(program), path.read_bytes(), os.fsencode(path), 0, None, None)
        try:
            failed = call.nvrtcCompileProgram(program, len(options), words)
            log = self.get_output("ProgramLog", program).decode(errors="replace").replace("\0", "")
            if failed:
                raise CompileError(first_error(log, path))
            if arch.startswith("sm_"):
                return self.get_output("CUBIN", program), log
            return self.get_output("PTX", program).rstrip(b"\0"), log
        finally:
            call.nvrtcDestroyProgram(ctypes.byref(program))

    def get_output(self, what, program):
        """The PTX, CUBIN or ProgramLog of a program, as bytes; of a text a zero is the last."""
        size = ctypes.c_size_t()
        getattr(self.library, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        getattr(self.library, f"nvrtcGet{what}")(program, buffer)
        return buffer.raw


@cache
def load_library(found):
    """The libraries of the wheel, the one that the other looks for first.  Raises CompileError."""
    files = [str(found.locate_file(file)) for file in found.files or () if re.search(r"\.so[.\d]*$|\.dll$", file.name)]
    try:
        return [ctypes.CDLL(file) for file in sorted(files, key=lambda file: "builtins" not in file)][-1]
    except (OSError, IndexError) as error:
        raise CompileError(f"the wheel {WHEEL} cannot be loaded: {error}") from None


def first_error(log, path):
    """The first error of a compiler's log as one line, "norm.cu:17: what is wrong", and how many more there are."""
    errors = re.findall(r"^(.+)\((\d+)\): (?:catastrophic )?error: (.+)$", log, re.M)
    if errors:
        more = f" (and {len(errors) - 1} more)" if errors[1:] else ""
        return f"{errors[0][0]}:{errors[0][1]}: {errors[0][2]}{more}"
    last = [line for line in log.splitlines() if "error" in line] or log.split("\n", 1)
    return f"{path}: {' '.join(last[0].split())}"


def cache_dir():
    """Where compiled kernels are kept: in the user's own cache."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    home = Path(given) if os.path.isabs(given) else Path(os.path.expanduser("~"), ".cache")
    return (home if home.is_absolute() else Path(tempfile.gettempdir())) / "tinyscout"


@cache
def headers_dir(version):
    """Where the compiler puts CUDA's own headers: into the cache, or where that cannot be, into a passing directory."""
    try:
        place = cache_dir() / f"headers-{version}"
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=place):
            return place
    except OSError:
        temp_dirs.append(tempfile.TemporaryDirectory())
        return temp_dirs[-1].name


temp_dirs: list[tempfile.TemporaryDirectory] = []         # removed when Python ends


def read_cached(place):
    """What is kept under a name, or None where there is nothing, or nothing that is whole  ->  code bytes, log text"""
    try:
        head, code = place.read_bytes().split(b"\n", 1)
        kept = json.loads(head)
        return (code, kept["log"]) if kept["sha256"] == hashlib.sha256(code).hexdigest() else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_cached(place, code, log):
    """Keep it, whole or not at all; where nothing can be written, nothing is kept."""
    head = json.dumps({"sha256": hashlib.sha256(code).hexdigest(), "log": log})
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        file, name = tempfile.mkstemp(dir=place.parent)
        try:
            with open(file, "wb") as out:
                out.write(head.encode() + b"\n" + code)
            os.replace(name, place)
        except OSError:
            os.unlink(name)
            raise
    except OSError:
        pass
