"""Build tinyscout's two extensions: the C kernels through cffi, the C++ tokenizer through pybind11.

Everything else about the package is in pyproject.toml.  A machine without a compiler still gets a
working package: the NumPy column and the Python tokenizer need neither extension.
"""
import runpy
import tempfile
from copy import copy
from glob import glob
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, ExecError, LinkError

ROOT = Path(__file__).resolve().parent
C_BUILDERS = runpy.run_path(str(ROOT / "csrc/c/build.py"))["BUILDERS"] if (ROOT / "csrc").is_dir() else {}

OPENMP_PROBE = "#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n"


class BuildExtensions(build_ext):
    """Adds what only the building machine knows: pybind11's headers and whether OpenMP is there."""

    def initialize_options(self):
        super().initialize_options()
        self.parallel = True  # as many extensions at a time as there are processors

    def build_extensions(self):
        import pybind11  # a build requirement: importable now, not when setup.py is first read

        openmp = ["-fopenmp"] if self.has_openmp() else []
        for extension in self.extensions:
            extension.include_dirs.append(pybind11.get_include())
            extension.extra_compile_args += openmp
            extension.extra_link_args += openmp
            extension.optional = True  # the package works without: a failed build is a warning
        super().build_extensions()

    def build_extension(self, extension):
        """Build one extension in a directory of its own: the levels compile the same files at the same time."""
        command = copy(self)
        command.build_temp = str(Path(self.build_temp) / extension.name)
        super(BuildExtensions, command).build_extension(extension)

    def has_openmp(self):
        with tempfile.TemporaryDirectory() as scratch:
            source = Path(scratch) / "probe.c"
            source.write_text(OPENMP_PROBE)
            try:
                objects = self.compiler.compile([str(source)], output_dir=scratch, extra_postargs=["-fopenmp"])
                self.compiler.link_executable(objects, str(Path(scratch) / "probe"), extra_postargs=["-fopenmp"])
            except (CompileError, LinkError, ExecError):
                return False
        return True


setup(
    packages=[*find_packages(include=["tinyscout", "tinyscout.*"]), "tinyscout.csrc.cuda"],
    package_dir={"tinyscout.csrc.cuda": "csrc/cuda"},       # CUDA kernels are compiled where they run
    package_data={"tinyscout.csrc.cuda": ["*.cu", "*.cuh"], "tinyscout": ["py.typed", "scout-mini/*"]},
    cffi_modules=[f"csrc/c/build.py:{name}" for name in C_BUILDERS],
    ext_modules=[
        Extension(
            "tinyscout._bpe",
            sorted(glob("csrc/cpp/*.cpp")),
            depends=sorted(glob("csrc/cpp/*.h")),
            language="c++",
            extra_compile_args=["-std=c++17", "-O3", "-g0", "-fvisibility=hidden"],
        )
    ],
    cmdclass={"build_ext": BuildExtensions},
)
