"""The weights of a HuggingFace folder, in one safetensors file or in several with an index, as one source."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from kexue_hf.conversion.safetensors_reader import SafetensorsFile
from kexue_hf.conversion.source_config import load_json_object
from kexue_hf.conversion.weight_source import StoredTensor, WeightSource
from kexue_hf.errors import CheckpointError, quoted

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"


def open_safetensors(folder: Path) -> WeightSource:
    """Open `model.safetensors`, or all files of its index.

    Raises:
        CheckpointError: a file is missing, truncated or malformed, or the index names what is not there.
    """
    if (folder / WEIGHTS).exists():
        return SafetensorsFile(folder / WEIGHTS)
    return ShardedSafetensors(folder / INDEX)


class ShardedSafetensors(WeightSource):
    """Several safetensors files that an index (tensor -> file) puts together. Raises as `open_safetensors`."""

    def __init__(self, index: Path) -> None:
        places = load_json_object(index).get("weight_map")
        if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
            raise CheckpointError(f"{index}: expected an object weight_map, tensor -> file")
        self._shards: dict[str, SafetensorsFile] = {}
        self._owner: dict[str, SafetensorsFile] = {}
        with contextlib.ExitStack() as opened:
            for name in dict.fromkeys(places.values()):
                if not name or Path(name).name != name or "\0" in name:
                    raise CheckpointError(f"{index}: names {quoted(name)}, which is no file of its folder")
                self._shards[name] = opened.enter_context(SafetensorsFile(index.with_name(name)))
            tensors: dict[str, StoredTensor] = {}
            for tensor, name in places.items():
                shard = self._shards[name]
                if tensor not in shard.tensors:
                    raise CheckpointError(f"{index}: tensor {quoted(tensor)} should be in {quoted(name)}, and is not")
                tensors[tensor], self._owner[tensor] = shard.tensors[tensor], shard
            opened.pop_all()
        super().__init__(str(index), tensors)

    def chunks(self, name: str) -> Iterator[np.ndarray]:
        return self._owner[name].chunks(name)

    @property
    def files(self) -> list[Path]:
        return [Path(self.path), *(path for shard in self._shards.values() for path in shard.files)]

    def close(self) -> None:
        for shard in self._shards.values():
            shard.close()
