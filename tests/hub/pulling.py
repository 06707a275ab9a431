"""Download models and pipelines from the Hub by name and run them. Imports nothing of this package."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import transformers

from tests.hub.loading import encodings, model_outputs


def pulled(plan: list[dict[str, Any]], with_package: bool) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the outputs and the encodings of each entry of a plan, by its repository.

    An entry has a repository, and either an Auto class with texts, or a pipeline's task with inputs.
    """
    flags = {} if with_package else {"trust_remote_code": True}
    home = "kexue_hf" if with_package else "transformers_modules"
    outputs, encoded = {}, {}
    for entry in plan:
        repository = entry["repository"]
        if "task" in entry:
            # transformers runs a saved pipeline's own code, and asks for trust, even if the task is registered.
            pipe = transformers.pipeline(entry["task"], model=repository, trust_remote_code=True)
            assert type(pipe).__module__.startswith("transformers_modules"), type(pipe)
            assert type(pipe.model).__module__.startswith(home), type(pipe.model)
            encoded[repository] = json.loads(
                json.dumps(pipe(entry["inputs"], **entry["options"]), default=np.ndarray.tolist)
            )
            continue
        tokenizer = transformers.AutoTokenizer.from_pretrained(repository, **flags)
        auto = getattr(transformers, entry["auto"])
        model, info = auto.from_pretrained(repository, output_loading_info=True, **flags)
        assert type(model).__module__.startswith(home), type(model)
        assert not info["missing_keys"] and not info["unexpected_keys"], info
        encoded[repository] = encodings(tokenizer, entry["texts"])
        for place, output in enumerate(model_outputs(model, tokenizer, entry["texts"])):
            outputs[f"{repository} {place}"] = output
    return outputs, encoded


def main() -> None:
    """Arguments: the plan as a JSON file, and a folder to write to."""
    sys.modules["kexue_hf"] = None  # type: ignore[assignment]  # importing it raises ImportError
    outputs, encoded = pulled(json.loads(Path(sys.argv[1]).read_text()), with_package=False)
    np.savez(Path(sys.argv[2]) / "outputs.npz", **outputs)
    (Path(sys.argv[2]) / "encoded.json").write_text(json.dumps(encoded))
