"""What the results of a command depend on. `--resume` continues a run only if these facts are unchanged."""

from pathlib import Path
from typing import Any


def resume_facts(command: str, model: str, **options: Any) -> dict[str, Any]:
    """Return everything except the input rows that affects the results: model files, options, versions."""
    import importlib.metadata
    import os
    import zlib

    folder = Path(model)
    files = _files_of(folder) if folder.is_dir() else []
    state = [(str(path.relative_to(folder)), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    versions = {name: importlib.metadata.version(name) for name in ("kexue-hf", "torch", "transformers")}
    name = os.path.realpath(model) if files else model
    facts = {"command": command, "model": f"{name} ({zlib.crc32(repr(state).encode()):08x})", **versions}
    return {**facts, **{f"--{name.replace('_', '-')}": value for name, value in options.items()}}


def _files_of(folder: Path) -> list[Path]:
    """Return the files that a loader may read, also in subfolders, except hidden ones (such as partial results)."""
    from kexue_hf.files.regular_file import READ

    files = (path for path in folder.rglob("*") if path.name.endswith(READ) and path.is_file())
    return sorted(path for path in files if not any(part[0] == "." for part in path.relative_to(folder).parts))


def loaded_model_facts(model: Any, tokenizer: Any) -> dict[str, Any]:
    """Return the device, dtype, commit and word segmenter that a loaded model uses."""
    import importlib.metadata

    from kexue_hf.files.hub_names import commit_of
    from kexue_hf.models.wobert.segmentation_wobert import installed
    from kexue_hf.models.wobert.tokenization_wobert import WoBertTokenizer

    segmenter = installed(None)[0] if isinstance(tokenizer, WoBertTokenizer) else None
    return {
        "device": model.device.type,
        "dtype": str(model.dtype).removeprefix("torch."),
        "commit": getattr(model.config, "_commit_hash", None) or commit_of(model.config.name_or_path),
        "segmenter": segmenter and f"{segmenter} {importlib.metadata.version(segmenter)}",
    }


__all__ = ["loaded_model_facts", "resume_facts"]
