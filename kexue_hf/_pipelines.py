"""Registration of our pipelines with transformers, when its `transformers.pipelines` is imported."""

import importlib
from types import ModuleType

# task -> module in kexue_hf.pipelines, class, the Auto class that loads its model
_TASKS: dict[str, tuple[str, str, str]] = {
    "sentence-vectors": ("sentence_vectors_pipeline", "SentenceVectorsPipeline", "AutoModel"),
    "text-scoring": ("text_scoring_pipeline", "TextScoringPipeline", "AutoModelForMaskedLM"),
    "text-correction": ("text_correction_pipeline", "TextCorrectionPipeline", "AutoModelForMaskedLM"),
    "text-matching": ("text_matching_pipeline", "TextMatchingPipeline", "AutoModelForSequenceClassification"),
}


def register_pipelines(module: ModuleType) -> None:
    """Make our tasks known to `transformers.pipelines`."""
    transformers = importlib.import_module("transformers")
    for task, (file, class_name, auto_class) in _TASKS.items():
        pipeline_class = getattr(importlib.import_module(f"kexue_hf.pipelines.{file}"), class_name)
        # Registering again would warn of overwriting what is ours.
        if module.PIPELINE_REGISTRY.supported_tasks.get(task, {}).get("impl") is not pipeline_class:
            module.PIPELINE_REGISTRY.register_pipeline(
                task, pipeline_class=pipeline_class, pt_model=getattr(transformers, auto_class), type="text"
            )
