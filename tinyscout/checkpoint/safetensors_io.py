"""Safetensors files: mapped into memory, written piece by piece, and put in place all together or not at all."""
import json
import os
import re
import shutil
import tempfile
from collections import Counter
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from tinyscout.checkpoint.config_json import read_json
from tinyscout.progress import track

FLOATS = {"F32": np.dtype(np.float32), "F16": np.dtype(np.float16), "BF16": np.dtype(ml_dtypes.bfloat16)}
DTYPES = FLOATS | {"F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn), "I8": np.dtype(np.int8), "U8": np.dtype(np.uint8)}
CODES = {dtype: code for code, dtype in DTYPES.items()}
SHARD_BYTES = 5 * 10 ** 9
WEIGHT_FILES = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors|model\.safetensors\.index\.json")
CACHE_LINE = 64               # bytes of a cache line: where a tensor should begin


def mmap_file(path):
    """Every tensor of one safetensors file, mapped into memory and not yet read.

    path  ->  {name: array}.  Raises OSError, or ValueError for a damaged file or a dtype not in DTYPES.
    """
    try:        # opened here first, since the library calls a file missing that may not be read
        with open(path, "rb") as file, safe_open(path, framework="numpy"):  # it checks every offset and shape
            raw = np.memmap(file, mode="r")
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or not safetensors: {error}") from None
    start = 8 + int(raw[:8].view("<u8")[0])
    header = json.loads(raw[8:start].tobytes())
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        if entry["dtype"] not in DTYPES:
            raise ValueError(f"{path}: {name} is {entry['dtype']}; tinyscout reads {', '.join(DTYPES)}")
        low, high = (start + offset for offset in entry["data_offsets"])
        array = raw[low:high].view(np.ndarray).view(DTYPES[entry["dtype"]]).reshape(entry["shape"])
        tensors[name] = np.require(array, requirements="A")     # a copy only where some other writer did not align
    return tensors


def mmap_tensors(directory):
    """Every tensor of a checkpoint, one file or several with an index.  The one comes first, as in transformers.

    directory  ->  {name: array}.  Raises OSError or ValueError.
    """
    directory = Path(directory)
    whole, index = directory / "model.safetensors", directory / "model.safetensors.index.json"
    if whole.is_file():
        return mmap_file(whole)
    if not index.is_file():
        raise FileNotFoundError(f"{directory} holds no model.safetensors and no model.safetensors.index.json")
    placed = read_json(index).get("weight_map")
    if not isinstance(placed, dict):
        raise ValueError(f"{index} has no weight_map")
    for file in placed.values():
        if not (isinstance(file, str) and Path(file).name == file and file.endswith(".safetensors")):
            raise ValueError(f"{index} names {file!r}, which is not a safetensors file beside it")
    files = {file: mmap_file(directory / file) for file in sorted(set(placed.values()))}
    for name, file in placed.items():
        if name not in files[file]:
            raise ValueError(f"{index} says that {name} is in {file}, but it is not there")
    return {name: files[file][name] for name, file in placed.items()}


class TensorSpec(NamedTuple):
    """A tensor that is to be written."""

    dtype: Any
    shape: tuple

    @property
    def nbytes(self):
        return self.dtype.itemsize * int(np.prod(self.shape, dtype=np.int64))


class TensorGroup(NamedTuple):
    """Tensors that are made together."""

    sizes: dict         # {name: Size}
    chunks: Any         # () -> iterator of (name, array): the tensors' numbers, each one's from its first to its last


class ShardWriter:
    """One safetensors file being written: its header first, then every tensor from its beginning, piece by piece.

    Those whose length is whole cache lines stand first, so that each of them begins with one.
    """

    def __init__(self, path, sizes):
        order = sorted(sizes, key=lambda name: (sizes[name].nbytes % CACHE_LINE > 0, -sizes[name].dtype.itemsize))
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        end = 0
        for name in order:
            begin, end = end, end + sizes[name].nbytes
            header[name] = {"dtype": CODES[sizes[name].dtype], "shape": sizes[name].shape, "data_offsets": [begin, end]}
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-(8 + len(text)) % CACHE_LINE)
        self.path, self.sizes = path, sizes
        self.at = {name: 8 + len(text) + header[name]["data_offsets"][0] for name in order}
        self.file = open(path, "wb")  # noqa: SIM115  closed by the end of the `with` that it is in
        self.file.write(len(text).to_bytes(8, "little") + text)

    def append(self, name, array):
        """The next numbers of a tensor."""
        self.file.seek(self.at[name])
        whole = np.ascontiguousarray(array, self.sizes[name].dtype)
        self.at[name] += self.file.write(whole.reshape(-1).view(np.uint8).data)

    def __enter__(self):
        return self

    def __exit__(self, *failed):
        self.file.close()


def write_shards(directory, items, shard_bytes=SHARD_BYTES, what="Saving"):
    """Write tensors into as many files as needed, and their index if there are several.

    directory, items list of Stored, shard_bytes int, what str to say meanwhile  ->  dtype's name of most of the bytes
    """
    parts = split_into_shards(items, shard_bytes)
    index: dict[str, str] = {}
    held: Counter[str] = Counter()
    steps = iter(track([item for part in parts for item in part], what))
    for n, part in enumerate(parts, 1):
        file = "model.safetensors" if len(parts) == 1 else f"model-{n:05d}-of-{len(parts):05d}.safetensors"
        sizes = {name: size for item in part for name, size in item.sizes.items()}
        with ShardWriter(directory / file, sizes) as shard:
            for _ in part:
                for name, array in next(steps).chunks():
                    shard.append(name, array)
        index |= dict.fromkeys(sizes, file)
        for size in sizes.values():
            held[size.dtype.name] += size.nbytes
    next(steps, None)                                   # so that the bar is taken away
    if len(parts) > 1:
        text = json.dumps({"metadata": {"total_size": held.total()}, "weight_map": index}, indent=2)
        (directory / "model.safetensors.index.json").write_text(text + "\n", encoding="utf-8")
    return held.most_common(1)[0][0]


def split_into_shards(items, most):
    """Cut a list of Stored into parts of at most that many bytes each (more only where one item is larger)."""
    parts: list[list] = []
    room = 0
    for item in items:
        nbytes = sum(size.nbytes for size in item.sizes.values())
        if not parts or nbytes > room:
            parts.append([])
            room = most
        parts[-1].append(item)
        room -= nbytes
    return parts


@contextmanager
def atomic_directory(directory):
    """`with put_in_place(directory) as scratch:` the files written there are moved into the directory at the end.

    A full disk or an interruption before leaves an older checkpoint whole, and no directory where there was none.
    """
    directory = Path(directory)
    existed = directory.exists()
    directory.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".saving-", dir=directory))
    try:
        for part in ("new", "old"):
            (scratch / part).mkdir()
        yield scratch / "new"
        _swap_files(scratch / "new", directory, scratch / "old")
    except BaseException:
        shutil.rmtree(scratch / "new" if existed else directory, ignore_errors=True)
        for folder in (scratch / "old", scratch):
            with suppress(OSError):                 # not empty only if what was there could not be moved back
                folder.rmdir()
        raise
    shutil.rmtree(scratch)


def _swap_files(new, directory, old):
    """Move new files in, and out what they replace, weights under other names too; where that fails, all moves back."""
    coming = {path.name for path in new.iterdir()}
    going = {path.name for path in directory.iterdir() if path.name in coming or WEIGHT_FILES.fullmatch(path.name)}
    moved: list[tuple[Path, Path]] = []
    try:
        for source, target, names in [(directory, old, going), (new, directory, coming)]:
            for name in sorted(names):
                moved.append((source / name, target / name))
                os.rename(source / name, target / name)
    except BaseException:
        for before, after in reversed(moved):
            if os.path.lexists(after):              # the last may not have been moved
                os.rename(after, before)
        raise
