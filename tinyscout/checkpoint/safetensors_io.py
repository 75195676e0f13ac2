"""Safetensors files: memory-mapped for reading, and written tensor by tensor, in chunks."""
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open

from tinyscout.checkpoint.config_json import read_json, write_json
from tinyscout.checkpoint.dtypes import DTYPE_CODES, DTYPES
from tinyscout.progress import track

SHARD_BYTES = 5 * 10 ** 9
WEIGHT_FILES = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors|model\.safetensors\.index\.json")
CACHE_LINE = 64             # bytes: every tensor should begin at a multiple


def mmap_file(path: Path) -> dict[str, np.ndarray]:
    """Map every tensor of one safetensors file into memory, without reading it yet.

    path  ->  {name: array}.  Raises OSError, or ValueError for a damaged file or a dtype not in DTYPES.
    """
    try:        # opened here first, because the library reports an unreadable file as missing
        with open(path, "rb") as file, safe_open(path, framework="numpy"):  # safe_open checks offsets and shapes
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
        tensors[name] = np.require(array, requirements="A")     # a copy only if another writer did not align it
    return tensors


def mmap_tensors(directory: Path | str) -> dict[str, np.ndarray]:
    """Map every tensor of a checkpoint: of model.safetensors or, if it does not exist, of the shards in the index.

    directory  ->  {name: array}.  Raises OSError or ValueError.
    """
    directory = Path(directory)
    single_file, index = directory / "model.safetensors", directory / "model.safetensors.index.json"
    if single_file.is_file():       # it comes first, as in transformers
        return mmap_file(single_file)
    if not index.is_file():
        raise FileNotFoundError(f"{directory} holds no model.safetensors and no model.safetensors.index.json")
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict):
        raise ValueError(f"{index} has no weight_map")
    for file in weight_map.values():
        if not (isinstance(file, str) and Path(file).name == file and file.endswith(".safetensors")):
            raise ValueError(f"{index} names {file!r}, which is not a safetensors file in this directory")
    shards = {file: mmap_file(directory / file) for file in sorted(set(weight_map.values()))}
    for name, file in weight_map.items():
        if name not in shards[file]:
            raise ValueError(f"{index} says that {name} is in {file}, but it is not there")
    return {name: shards[file][name] for name, file in weight_map.items()}


class TensorSpec(NamedTuple):
    """Dtype and shape of a tensor to write."""

    dtype: np.dtype
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return self.dtype.itemsize * int(np.prod(self.shape, dtype=np.int64))


class TensorGroup(NamedTuple):
    """Tensors that are computed together."""

    specs: dict[str, TensorSpec]
    chunks: Callable[[], Iterable[tuple[str, np.ndarray]]]      # (name, array): each tensor's elements in order

    @property
    def nbytes(self) -> int:
        return sum(spec.nbytes for spec in self.specs.values())


class ShardWriter:
    """Writes one safetensors file: the header first, then the chunks of every tensor in order.

    Tensors that fill whole cache lines come first, so that each of them begins at a cache line.
    """

    def __init__(self, path: Path, specs: dict[str, TensorSpec]):
        order = sorted(specs, key=lambda name: (specs[name].nbytes % CACHE_LINE > 0, -specs[name].dtype.itemsize))
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        end = 0
        for name in order:
            begin, end = end, end + specs[name].nbytes
            header[name] = {"dtype": DTYPE_CODES[specs[name].dtype], "shape": specs[name].shape,
                            "data_offsets": [begin, end]}
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-(8 + len(text)) % CACHE_LINE)
        self.path, self.specs = path, specs
        self.offsets = {name: 8 + len(text) + header[name]["data_offsets"][0] for name in order}    # of the next chunks
        self.file = open(path, "wb")  # noqa: SIM115  closed by __exit__
        self.file.write(len(text).to_bytes(8, "little") + text)

    def append(self, name: str, array: np.ndarray) -> None:
        """Write the next elements of a tensor."""
        self.file.seek(self.offsets[name])
        chunk = np.ascontiguousarray(array, self.specs[name].dtype)
        self.offsets[name] += self.file.write(chunk.reshape(-1).view(np.uint8).data)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.file.close()


def write_shards(directory: Path, groups: list[TensorGroup], shard_bytes: int = SHARD_BYTES,
                 what: str = "Saving") -> str:
    """Write tensors into as many files as needed, and their index if there are several.

    directory, groups list of TensorGroup, shard_bytes int, what str for the progress bar
    ->  name of the dtype that takes the most bytes
    """
    shards = split_into_shards(groups, shard_bytes)
    weight_map: dict[str, str] = {}
    dtype_bytes: Counter[str] = Counter()
    tracked = iter(track([group for shard in shards for group in shard], what))
    for n, shard in enumerate(shards, 1):
        file = "model.safetensors" if len(shards) == 1 else f"model-{n:05d}-of-{len(shards):05d}.safetensors"
        specs = {name: spec for group in shard for name, spec in group.specs.items()}
        with ShardWriter(directory / file, specs) as writer:
            for _ in shard:
                for name, array in next(tracked).chunks():
                    writer.append(name, array)
        weight_map |= dict.fromkeys(specs, file)
        for spec in specs.values():
            dtype_bytes[spec.dtype.name] += spec.nbytes
    next(tracked, None)                                 # removes the progress bar
    if len(shards) > 1:
        write_json(directory / "model.safetensors.index.json",
                   {"metadata": {"total_size": dtype_bytes.total()}, "weight_map": weight_map})
    return dtype_bytes.most_common(1)[0][0]


def split_into_shards(groups: list[TensorGroup], max_bytes: int) -> list[list[TensorGroup]]:
    """Split a list of TensorGroup into shards of at most max_bytes each (more only if a single group is larger)."""
    shards: list[list[TensorGroup]] = []
    bytes_left = 0
    for group in groups:
        if not shards or group.nbytes > bytes_left:
            shards.append([])
            bytes_left = max_bytes
        shards[-1].append(group)
        bytes_left -= group.nbytes
    return shards
