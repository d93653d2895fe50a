"""Headers of safetensors files: names and shapes of tensors, sizes, one spelling; no torch.

A header is written in one order and one spelling, so the same tensors are the same file, byte for
byte, and the size of a file is known before there is one.
"""

from __future__ import annotations

import json
import math
import shutil
import struct
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from charsweep.core.errors import ModelsError
from charsweep.core.store.files import replacing

WIDTHS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}  # of what is written here
# How files of other kinds begin, whatever they are called.
OTHERS = {
    b"PK\x03\x04": "a pickled checkpoint or a zip archive, which may hold code and is not read",
    b"\x80": "pickled, which may hold code, and is not read",
    b"GGUF": "a GGUF file, whose numbers are too coarse to teach",
}
LONGEST_HEADER = 100_000_000  # bytes; the format's own limit
UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError,
              struct.error, SafetensorError)  # fmt: skip


class TensorEntry(NamedTuple):
    """A tensor's kind of number, in safetensors' words, and its shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes in a file."""
        return WIDTHS[self.dtype] * math.prod(self.shape)


def in_order(entries: Mapping[str, TensorEntry]) -> list[str]:
    """As safetensors lays them out: wide numbers first, so that all are aligned, then by name."""
    return sorted(entries, key=lambda name: (-WIDTHS[entries[name].dtype], name))


def header_of(entries: Mapping[str, TensorEntry], metadata: Mapping[str, str]) -> bytes:
    """The first bytes of a file: a length, and names, shapes and places as JSON."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name in in_order(entries):
        start, end = end, end + entries[name].size
        entry = entries[name]
        header[name] = {
            "dtype": entry.dtype, "shape": list(entry.shape), "data_offsets": [start, end]
        }  # fmt: skip
    return _spelled(header)


def file_size(entries: Mapping[str, TensorEntry], metadata: Mapping[str, str]) -> int:
    """Bytes of the file with these tensors."""
    return len(header_of(entries, metadata)) + sum(entry.size for entry in entries.values())


def tensor_shapes(path: Path) -> dict[str, list[int]]:
    """Names and shapes of all tensors of a file, from its header alone.

    ModelsError if the file is shorter than its header says, as a download that stopped half way
    is, or is of another kind, or if a header asks for more memory than its file has bytes.
    """
    return _shapes(path, _state(path))


def _state(path: Path) -> tuple[int, int]:
    """By what a file is known to be as it was when it was read."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


@cache
def _shapes(path: Path, state: tuple[int, int]) -> dict[str, list[int]]:
    size = 0
    try:
        size = path.stat().st_size
        header, first = _header(path)
        header.pop("__metadata__", None)
        shapes = {name: list(entry["shape"]) for name, entry in header.items()}
        wanted = first + max(entry["data_offsets"][1] for entry in header.values())
        is_short = size < wanted
        if not is_short:
            with safe_open(path, "np"):  # refuses tensors that do not lie as their header says
                pass
    except OSError as error:
        raise ModelsError(f"cannot read {path}: {error.strerror or error}") from error
    except UNREADABLE as error:
        for start, what in OTHERS.items():
            if _starts(path, start):
                raise ModelsError(f"{path} is {what}; give it as a .safetensors file") from error
        raise ModelsError(
            f"{path} is no safetensors file ({size} bytes) or not whole; fetch it again: what a "
            "browser saved may be a web page, and a few hundred bytes may only point at the file"
        ) from error
    if is_short:
        raise ModelsError(
            f"{path} is cut short: {size} bytes of {wanted}; its download or copy stopped half "
            "way, so fetch it again"
        )
    return shapes


def _starts(path: Path, start: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(start)) == start


def metadata_of(path: Path) -> dict[str, str]:
    """What a file's header says beside its tensors; ModelsError as `tensor_shapes`."""
    tensor_shapes(path)
    return _metadata(path, _state(path))


@cache
def _metadata(path: Path, state: tuple[int, int]) -> dict[str, str]:
    header, _ = _header(path)
    metadata = header.get("__metadata__")
    return metadata if isinstance(metadata, dict) else {}


def numbers_in(path: Path, name: str, most: int = 10_000) -> NDArray[np.float64] | None:
    """A short row of numbers, as a tensor of that name; None where there is none."""
    if (shape := tensor_shapes(path).get(name)) is None or len(shape) != 1 or shape[0] > most:
        return None
    header, first = _header(path)
    start, end = header[name]["data_offsets"]
    with path.open("rb") as file:
        file.seek(first + start)
        content = file.read(end - start)
    kind = str(header[name]["dtype"])
    if kind == "BF16":  # which numpy has not: the upper half of a float32
        upper = np.frombuffer(content, "<u2").astype(np.uint32) << 16
        return upper.view(np.float32).astype(np.float64)
    widths = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
    return np.frombuffer(content, widths[kind]).astype(np.float64) if kind in widths else None


def is_zero(path: Path, name: str) -> bool:
    """Whether all numbers of a tensor are zero."""
    header, first = _header(path)
    start, end = header[name]["data_offsets"]
    with path.open("rb") as file:
        file.seek(first + start)
        return not any(file.read(end - start))


def settle_header(path: Path) -> None:
    """Sort a safetensors header: the library writes its metadata in an order of chance.

    So that the same weights are the same file, byte for byte.
    """
    header, first = _header(path)
    with replacing(path) as temporary, path.open("rb") as old, temporary.open("wb") as new:
        old.seek(first)
        new.write(_spelled(header))
        shutil.copyfileobj(old, new)


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """The header as JSON, and where the tensors begin."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > min(LONGEST_HEADER, path.stat().st_size - 8):
            raise ValueError(f"a header of {length} bytes")
        header = json.loads(file.read(length))
        if not isinstance(header, dict):
            raise ValueError("a header that is no object")
        return header, 8 + length


def _spelled(header: Mapping[str, Any]) -> bytes:
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    return struct.pack("<Q", -(-len(text) // 8) * 8) + text.ljust(-(-len(text) // 8) * 8)
