"""The README.md of a converted folder: what it is, where it came from, how it is loaded."""

from kexue_hf.conversion.weight_table import Plan

_PIPELINES = {
    "ForPreTraining": "fill-mask",
    "ForMaskedLM": "fill-mask",
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
}
_AUTO_CLASSES = {"ForNextSentencePrediction": "AutoModelForNextSentencePrediction", "Model": "AutoModel"}


def model_card(name: str, family: str, architecture: str, source: str, plan: Plan, license: str | None) -> str:
    """Render the card.

    Args:
        name: of the folder. source: name of the checkpoint's file. architecture: the class that opens the folder.
        license: an identifier of the Hub ("apache-2.0"); left out where it is not known.
    """
    task = next((task for ending, task in _PIPELINES.items() if architecture.endswith(ending)), "feature-extraction")
    auto = auto_class(architecture)
    front = ["---", "library_name: transformers", "language: zh"]
    front += [f"license: {license}"] if license else []
    front += [f"pipeline_tag: {task}", "tags:", f"- {family}", "- kexue-hf", "---"]
    lines = [
        *front,
        f"# {name}",
        "",
        f"A {family} model, converted with kexue_hf from the checkpoint "
        f"`{source}`, bit for bit: {len(plan.moves)} tensors with {plan.parameters:,} parameters; "
        f"{len(plan.dropped)} tensors that are no part of the model (optimizer state, counters) were left behind.",
        "",
        "## Load it",
        "",
        "```python",
        "import kexue_hf  # pip install kexue-hf",
        f"from transformers import AutoTokenizer, {auto}",
        "",
        f'tokenizer = AutoTokenizer.from_pretrained("{name}")',
        f'model = {auto}.from_pretrained("{name}")',
        "```",
        "",
        "Without the package, by the code that lies in this folder (needs `pip install jieba` or `rjieba`):",
        "",
        "```python",
        f"from transformers import AutoTokenizer, {auto}",
        "",
        f'tokenizer = AutoTokenizer.from_pretrained("{name}", trust_remote_code=True)',
        f'model = {auto}.from_pretrained("{name}", trust_remote_code=True)',
        "```",
        "",
        "The tokenizer belongs to the weights: its unit is the word, and a character tokenizer would feed the model "
        "ids that mean something else.",
    ]
    return "\n".join(lines) + "\n"


def auto_class(architecture: str) -> str:
    """The Auto class that opens a folder of the architecture."""
    for ending in (*_PIPELINES, *_AUTO_CLASSES):
        if architecture.endswith(ending):
            return _AUTO_CLASSES.get(ending, f"AutoModel{ending}")
    return "AutoModel"
