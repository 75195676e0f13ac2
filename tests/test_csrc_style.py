"""How csrc is written: clang-format's layout, 120 columns; in C and CUDA functions of 40 lines and 8 arguments at most.

A list of arguments that is longer cannot be checked by eye: sizes and arrays that belong together travel in a struct.
Kernels that Python calls keep the flat list, because their arguments are those of the Python function.
"""
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WIDTH, LINES, ARGUMENTS = 120, 40, 8
FOLDERS = ("c", "cuda", "cpp")
FILES = [path for folder in FOLDERS for path in sorted((ROOT / "csrc" / folder).glob("*"))
         if path.suffix in (".c", ".h", ".cu", ".cuh", ".cpp")]
BY_FILE = pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
OF_FUNCTIONS = pytest.mark.parametrize(         # the definitions below are those of C; C++ has classes around them
    "path", [path for path in FILES if path.parent.name != "cpp"], ids=lambda path: path.relative_to(ROOT).as_posix())
if not FILES:
    pytest.skip("no csrc/ beside these tests", allow_module_level=True)

# A definition begins at the margin, its arguments may take several lines, and its body ends with a brace at the margin.
DEFINITION = re.compile(r"^(?P<head>[A-Za-z_](?:[^;={}()]|\([^()]*\)(?=[^;{}]*\())*)"
                        r"\((?P<arguments>[^;{}]*)\)\s*\{", re.MULTILINE)
PUBLIC = re.compile(r"^\w+ \*?(\w+)\([^)]*\);", re.MULTILINE)


def blank_comments(source):
    """The source without the words of its comments, and with as many lines."""
    return re.sub(r"//.*", "", re.sub(r"/\*.*?\*/", lambda found: "\n" * found[0].count("\n"), source, flags=re.DOTALL))


def definitions(source):
    """(name, what stands before it, number of arguments, number of lines) of every function that is defined in C."""
    source = blank_comments(source)
    for found in DEFINITION.finditer(source):
        name = re.search(r"(\w+)\s*$", found["head"])
        if not name or name[1] in ("if", "for", "while", "switch", "__attribute__"):
            continue
        first_line_end = source.find("\n", found.end())
        is_one_line = source[found.end():first_line_end].rstrip().endswith("}")
        end = first_line_end if is_one_line else source.index("\n}", found.end()) + 2
        arguments = re.sub(r"\([^()]*\)", "", found["arguments"]).strip()
        count = 0 if arguments in ("", "void") else arguments.count(",") + 1
        yield name[1], found["head"], count, source.count("\n", found.start(), end) + 1


def test_it_is_formatted():
    clang_format = pytest.importorskip("clang_format", reason="clang-format is not installed")
    program = clang_format.get_executable("clang-format")
    done = subprocess.run([program, f"--style=file:{ROOT}/.clang-format", "--dry-run", "--Werror", *FILES],
                          capture_output=True, text=True)
    assert done.returncode == 0, f"run clang-format -i on them:\n{done.stderr[:3000]}"


@BY_FILE
def test_lines_are_short(path):
    long = [n for n, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1) if len(line) > WIDTH]
    assert not long, f"{path}: lines {long} are over {WIDTH} columns"


@OF_FUNCTIONS
def test_functions_are_short(path):
    long = {name: lines for name, _, _, lines in definitions(path.read_text(encoding="utf-8")) if lines > LINES}
    assert not long, f"{path}: {long} have more than {LINES} lines"


@OF_FUNCTIONS
def test_internal_functions_take_few_arguments(path):
    """Public are the functions of kernels.h, and CUDA kernels by their plain name."""
    header = path.parent / "kernels.h"
    public = set(PUBLIC.findall(blank_comments(header.read_text()))) if header.exists() else set()
    many = {name: count for name, head, count, _ in definitions(path.read_text(encoding="utf-8"))
            if count > ARGUMENTS and name not in public and "__global__" not in head}
    assert not many, f"{path}: {many} have more than {ARGUMENTS} arguments"


def test_the_definitions_are_found():
    found = {name: (count, lines) for name, _, count, lines in definitions("""
// a comment (with, commas) {
/* int gone(int a, int b) {
}
*/
static inline int add(int a,  // , int c
                      int b) {
    if (a) { return b; }
    return a + b;
}
INLINE float one(void) { return 1.0f; }
void declared(int a, int b);
static int values[] = {1, 2};
__global__ __launch_bounds__(128) void kernel(float *out, int (*f)(int, int), const float *x) {
}
typedef struct {
    int a, b;
} pair;
""")}
    assert found == {"add": (2, 5), "one": (0, 1), "kernel": (3, 2)}
