"""Reads a safetensors file in small pieces, for the way back and for `verify`; needs neither torch nor safetensors."""

import json
import math
import os
from collections.abc import Iterator

import numpy as np

from kexue_hf.conversion.element_types import BY_SAFETENSORS
from kexue_hf.conversion.weight_source import CHUNK, StoredTensor, WeightSource
from kexue_hf.errors import CheckpointError

_LARGEST_HEADER = 100_000_000


class SafetensorsFile(WeightSource):
    """A safetensors file, open for reading.

    Raises:
        CheckpointError: the file is missing, truncated or malformed.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        path = os.fspath(path)
        try:
            self._file = open(path, "rb", buffering=0)  # noqa: SIM115  (closed by `close`)
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from None
        self._chunk = memoryview(bytearray(CHUNK))
        try:
            self._places: dict[str, int] = {}
            super().__init__(path, self._read_header(path))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            self.close()
            message = (
                error if isinstance(error, CheckpointError) else f"{path}: not a readable safetensors file: {error}"
            )
            raise CheckpointError(str(message)) from None
        except BaseException:
            self.close()
            raise

    def chunks(self, name: str) -> Iterator[np.ndarray]:
        kind = self.readable(name)
        self._file.seek(self._places[name])
        rest = self.tensors[name].size
        while rest:
            piece = self._chunk[: min(CHUNK, rest)]
            got = 0
            while got < len(piece):
                count = self._file.readinto(piece[got:])
                if not count:
                    raise CheckpointError(f"{self.path}: ends inside tensor {name!r}: the file is truncated")
                got += count
            rest -= len(piece)
            yield np.frombuffer(piece, dtype=kind.numpy)

    def read_bytes(self, name: str, start: int, size: int) -> bytes:
        """A stretch of a tensor's bytes. CheckpointError if the file ends before."""
        self._file.seek(self._places[name] + start)
        data = b""
        while len(data) < size:
            more = self._file.read(size - len(data))
            if not more:
                raise CheckpointError(f"{self.path}: ends inside tensor {name!r}: the file is truncated")
            data += more
        return data

    def close(self) -> None:
        self._file.close()

    def _read_header(self, path: str) -> dict[str, StoredTensor]:
        length = os.fstat(self._file.fileno()).st_size
        size = int.from_bytes(self._file.read(8) or b"", "little")
        if length < 8 or size > min(_LARGEST_HEADER, length - 8):
            raise ValueError(f"its header of {size} bytes does not fit into its {length} bytes")
        header = json.loads(self._file.read(size) or b"")
        tensors = {}
        for name, row in header.items():
            if name == "__metadata__":
                continue
            kind = BY_SAFETENSORS.get(row["dtype"])
            shape, (begin, end) = tuple(row["shape"]), row["data_offsets"]
            if not 0 <= begin <= end <= length - 8 - size:
                raise ValueError(f"tensor {name!r} lies outside it: truncated?")
            if kind and (any(dim < 0 for dim in shape) or math.prod(shape) * kind.size != end - begin):
                raise ValueError(f"tensor {name!r} of shape {list(shape)} does not have {end - begin} bytes")
            self._places[name] = 8 + size + begin
            obstacle = "" if kind else f"has type {row['dtype']}, which this reader does not know"
            tensors[name] = StoredTensor(name, kind, shape, end - begin, obstacle)
        return tensors
