"""Reading and writing safetensors files: headers, shapes and bytes of tensors; no torch.

A header is written in one order and one spelling, so the same tensors are the same file, byte for
byte, and the size of a file is known before there is one.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import struct
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from charsweep.core.errors import ModelsError
from charsweep.core.store.files import replacing

WIDTHS = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I8": 1, "U8": 1, "BOOL": 1}
MORE_WIDTHS = {"C64": 8, "U64": 8, "U32": 4, "I16": 2, "U16": 2, "F8_E4M3": 1, "F8_E5M2": 1}
MOST_DIMENSIONS = 64  # torch's own limit
LONGEST_HEADER = 100_000_000  # bytes; the format's own limit
UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError)


class TensorEntry(NamedTuple):
    """A tensor's kind of number, in safetensors' words, and its shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes in a file."""
        return WIDTHS[self.dtype] * math.prod(self.shape)


class TensorPiece(NamedTuple):
    """A tensor to write: where its bytes lie in a file, or the bytes themselves."""

    entry: TensorEntry
    source: Path | bytes
    start: int = 0


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


def write_tensors(
    path: Path, pieces: Mapping[str, TensorPiece], metadata: Mapping[str, str]
) -> None:
    """Write tensors under new names; their bytes are copied as they are."""
    entries = {name: piece.entry for name, piece in pieces.items()}
    with path.open("wb") as file:
        file.write(header_of(entries, metadata))
        for data in bytes_of(pieces):
            file.write(data)


def bytes_of(pieces: Mapping[str, TensorPiece]) -> Iterable[bytes]:
    """The tensors' bytes, in the order in which they are written."""
    for name in in_order({name: piece.entry for name, piece in pieces.items()}):
        entry, source, start = pieces[name]
        if isinstance(source, bytes):
            yield source
            continue
        with source.open("rb") as file:
            file.seek(start)
            yield file.read(entry.size)


def digest_of_tensors(pieces: Mapping[str, TensorPiece]) -> str:
    """SHA-256 of all that follows the header: it stays when only the metadata change."""
    total = hashlib.sha256()
    for data in bytes_of(pieces):
        total.update(data)
    return total.hexdigest()


def read_pieces(path: Path) -> tuple[dict[str, TensorPiece], dict[str, str]]:
    """Where each tensor of a file lies, and the file's metadata; ModelsError as `tensor_shapes`."""
    tensor_shapes(path)
    header, first = _header(path)
    metadata = header.pop("__metadata__", {})
    pieces = {
        name: TensorPiece(
            TensorEntry(known["dtype"], tuple(known["shape"])),
            path,
            first + known["data_offsets"][0],
        )
        for name, known in header.items()
    }
    return pieces, metadata


def check_layout(header: Mapping[str, Any]) -> int:
    """Where the last tensor ends; ValueError if a header is not one that safetensors writes.

    Every tensor begins where the one before it ends and is as long as its shape says, so that no
    header can ask for more memory than its file has bytes.
    """
    places = sorted((*entry["data_offsets"], name) for name, entry in header.items())
    end = 0
    for start, stop, name in places:
        shape, dtype = header[name]["shape"], header[name]["dtype"]
        if len(shape) > MOST_DIMENSIONS or not all(
            type(number) is int and number >= 0 for number in (start, stop, *shape)
        ):
            raise ValueError(f"{name} has no shape, or no place")
        if start != end or stop < start:
            raise ValueError(f"{name} begins at {start}, where {end} was due")
        width = (WIDTHS | MORE_WIDTHS).get(dtype)  # of kinds that come later, none is known
        if width is not None and width * math.prod(shape) != stop - start:
            raise ValueError(f"{name}: {stop - start} bytes are not {dtype} {shape}")
        end = stop
    if not places:
        raise ValueError("it holds no tensors")
    return end


@cache
def tensor_shapes(path: Path) -> dict[str, list[int]]:
    """Names and shapes of all tensors of a file, from its header alone.

    ModelsError if the file is shorter than its header says, as a download that stopped half way
    is, or is of another kind.
    """
    size = 0
    try:
        size = path.stat().st_size
        header, first = _header(path)
        header.pop("__metadata__", None)
        shapes = {name: list(entry["shape"]) for name, entry in header.items()}
        wanted = first + check_layout(header)
    except OSError as error:
        raise ModelsError(f"cannot read {path}: {error.strerror or error}") from error
    except (*UNREADABLE, struct.error) as error:
        raise ModelsError(
            f"{path} is no safetensors file ({size} bytes) or not whole; fetch it again: what a "
            "browser saved may be a web page, and a few hundred bytes may only point at the file"
        ) from error
    if size < wanted:
        raise ModelsError(
            f"{path} is cut short: {size} bytes of {wanted}; its download or copy stopped half "
            "way, so fetch it again"
        )
    return shapes


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
