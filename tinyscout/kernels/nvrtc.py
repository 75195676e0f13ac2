"""Compile a CUDA kernel without a GPU: NVIDIA's own compiler, the wheel nvidia-cuda-nvrtc, through ctypes.

The results are cached on disk under a hash of everything that they depend on, so that a kernel is compiled once.
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
    """A kernel does not compile, or the compiler is missing: a message of one line, with the kernel's file and line."""


def compile_ptx(path: Path | str) -> str:
    """The kernels of a .cu file as PTX text for the virtual architecture of sm_80.

    Raises OSError if the file cannot be read, CompileError if it does not compile.
    """
    return compile_cached(path, PTX_ARCH)[0].decode()


def compile_cubin(path: Path | str, arch: str) -> bytes:
    """The kernels of a .cu file as machine code for one architecture: sm_80, sm_90, sm_90a ...  ->  bytes

    Raises OSError if the file cannot be read, CompileError if it does not compile.
    """
    return compile_cached(path, arch)[0]


def resource_usage(path: Path | str, arch: str) -> dict[str, tuple[int, int]]:
    """The resources per thread of each kernel of a .cu file  ->  {name: (registers, bytes spilled to memory)}

    Raises the errors of `compile_cubin`.
    """
    log = compile_cached(path, arch)[1]
    entries = re.finditer(r"entry function '(\w+)'.*?(\d+) bytes spill stores.*?Used (\d+) registers", log, re.S)
    return {entry[1]: (int(entry[3]), int(entry[2])) for entry in entries}


def compile_cached(path: Path | str, arch: str) -> tuple[bytes, str]:
    """The code for an architecture, from the cache or else from the compiler  ->  code, log of the assembler"""
    path = Path(path).resolve()
    wheel = find_wheel()
    sources = [text for name_and_text in read_sources(path) for text in name_and_text]
    dependencies = [wheel.version, arch, *COMPILER_OPTIONS, str(path), *sources]
    digest = hashlib.sha256("\0".join(dependencies).encode()).hexdigest()
    cache_path = cache_dir() / f"{path.stem}-{arch}-{digest[:32]}"
    if (result := read_cached(cache_path)) is None:
        write_cached(cache_path, *(result := Compiler(wheel).compile(path, arch)))
    return result


def read_sources(path):
    """The source files of a kernel: its own, and the headers in its folder or in csrc/cuda  ->  [(name, text)]"""
    texts, pending = {}, [path]
    for file in pending:                                    # the list grows in the loop
        if file not in texts:
            texts[file] = file.read_text(encoding="utf-8", errors="replace")
            pending += [header for name in re.findall(r'^\s*#\s*include\s+"([^"]+)"', texts[file], re.M)
                        for header in [(folder / name).resolve() for folder in include_dirs(file)]
                        if header.is_file()]
    return [(str(file), text) for file, text in texts.items()]


def include_dirs(path):
    return [path.parent, *([SOURCE_DIR] if SOURCE_DIR else [])]


@cache
def find_wheel():
    """The wheel of the compiler.  Raises CompileError if it is not installed."""
    try:
        return metadata.distribution(WHEEL)
    except metadata.PackageNotFoundError:
        raise CompileError(f"CUDA kernels need NVIDIA's compiler, the wheel {WHEEL} (Linux and Windows): "
                           "run pip install '.[cuda]' in the checkout") from None


class Compiler:
    """The library NVRTC, whose functions return 0 for success."""

    def __init__(self, wheel):
        self.version, self.library = wheel.version, load_library(wheel)

    def compile(self, path, arch):
        """path of a .cu file, arch compute_80 for PTX or sm_80 for machine code  ->  code bytes, log text"""
        library, program = self.library, ctypes.c_void_p()
        options = [f"-arch={arch}", *COMPILER_OPTIONS, *(f"-I{folder}" for folder in include_dirs(path)),
                   f"--use-bundled-headers={headers_dir(self.version)}"]
        option_array = (ctypes.c_char_p * len(options))(*(os.fsencode(option) for option in options))
        library.nvrtcCreateProgram(ctypes.byref(program), path.read_bytes(), os.fsencode(path), 0, None, None)
        try:
            failed = library.nvrtcCompileProgram(program, len(options), option_array)
            log = self.get_output("ProgramLog", program).decode(errors="replace").replace("\0", "")
            if failed:
                raise CompileError(first_error(log, path))
            if arch.startswith("sm_"):
                return self.get_output("CUBIN", program), log
            return self.get_output("PTX", program).rstrip(b"\0"), log
        finally:
            library.nvrtcDestroyProgram(ctypes.byref(program))

    def get_output(self, what, program):
        """The PTX, CUBIN or ProgramLog of a program, as bytes; a text ends with a zero byte."""
        size = ctypes.c_size_t()
        getattr(self.library, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        getattr(self.library, f"nvrtcGet{what}")(program, buffer)
        return buffer.raw


@cache
def load_library(wheel):
    """Load NVRTC, after the library of built-ins that it needs.  Raises CompileError."""
    files = [str(wheel.locate_file(file)) for file in wheel.files or () if re.search(r"\.so[.\d]*$|\.dll$", file.name)]
    try:
        return [ctypes.CDLL(file) for file in sorted(files, key=lambda file: "builtins" not in file)][-1]
    except (OSError, IndexError) as error:
        raise CompileError(f"the wheel {WHEEL} cannot be loaded: {error}") from None


def first_error(log, path):
    """The first error of a compiler's log as one line, "norm.cu:17: message", and the number of further errors."""
    errors = re.findall(r"^(.+)\((\d+)\): (?:catastrophic )?error: (.+)$", log, re.M)
    if errors:
        count = f" (and {len(errors) - 1} more)" if errors[1:] else ""
        return f"{errors[0][0]}:{errors[0][1]}: {errors[0][2]}{count}"
    lines = [line for line in log.splitlines() if "error" in line] or log.split("\n", 1)
    return f"{path}: {' '.join(lines[0].split())}"


def cache_dir() -> Path:
    """The folder of compiled kernels, in the user's cache folder."""
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    home = Path(xdg) if os.path.isabs(xdg) else Path(os.path.expanduser("~"), ".cache")
    return (home if home.is_absolute() else Path(tempfile.gettempdir())) / "tinyscout"


@cache
def headers_dir(version):
    """The folder for CUDA's own headers: in the cache, or a temporary one if the cache is not writable."""
    try:
        folder = cache_dir() / f"headers-{version}"
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:
        temp_dirs.append(tempfile.TemporaryDirectory())
        return temp_dirs[-1].name


temp_dirs: list[tempfile.TemporaryDirectory] = []         # removed when Python ends


def read_cached(path: Path) -> tuple[bytes, str] | None:
    """Read the code and log of a cache entry; None if it is missing or corrupt."""
    try:
        head, code = path.read_bytes().split(b"\n", 1)
        fields = json.loads(head)
        return (code, fields["log"]) if fields["sha256"] == hashlib.sha256(code).hexdigest() else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_cached(path: Path, code: bytes, log: str) -> None:
    """Write a cache entry atomically; do nothing if the cache is not writable."""
    head = json.dumps({"sha256": hashlib.sha256(code).hexdigest(), "log": log})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file, name = tempfile.mkstemp(dir=path.parent)
        try:
            with open(file, "wb") as out:
                out.write(head.encode() + b"\n" + code)
            os.replace(name, path)
        except OSError:
            os.unlink(name)
            raise
    except OSError:
        pass
