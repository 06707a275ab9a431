"""The site's navigation. The start page gets it here, so that its Markdown stays plain where no Sphinx reads it."""

from sphinx.application import Sphinx

# Caption -> documents, as paths from the repository's root, with a short title where the page's is long.
NAVIGATION = {
    "Start": [
        "中文 </docs/index.zh>",
        "A tour: README </README>",
        "I have a checkpoint </docs/checkpoints>",
        "Training on one GPU, many, CPUs </docs/training>",
        "/docs/notebooks/index",
    ],
    "Models": [
        "WoBERT </docs/wobert>",
        "T-TA </docs/tta>",
        "Matcher </docs/matcher>",
        "Performer </docs/performer>",
        "SimSiam: sentence vectors </docs/sentence_vectors>",
        "Xiangqi GPT </docs/xiangqi>",
    ],
    "Train": [
        "Pre-training </docs/pretraining>",
        "Losses </docs/losses>",
        "On the metric </docs/metric_training>",
        "Without a gradient </docs/zeroth_order>",
        "/docs/generation",
    ],
    "Convert, publish, deploy": [
        "/docs/conversion",
        "Publishing </docs/publishing>",
        "Large corpora </docs/large_corpora>",
        "Deployment </docs/deployment>",
    ],
    "Reference": [
        "/docs/api/index",
        "/docs/cards",
        "/docs/measurements",
        "/docs/compatibility",
        "/CONTRIBUTING",
        "/CHANGELOG",
    ],
}
# Pages below another page.
CHILDREN = {
    "docs/index.zh": ["README 中文版 </README.zh>"],
    "docs/notebooks/index": [
        f"/docs/notebooks/{name}" for name in ("first_steps", "old_checkpoint", "scoring", "matching", "xiangqi")
    ],
    "docs/conversion": ["/conversion/README"],
    "docs/publishing": ["The Space </examples/space/README>"],
    "docs/api/index": [f"/docs/api/{name}" for name in ("models", "texts", "training", "performer", "xiangqi")],
    "docs/cards": ["/model_cards/*", "The packaged models and samples </kexue_hf/assets/README>"],
}


def _toctree(documents: list[str], option: str = "") -> str:
    return "\n".join(["", "", "```{toctree}", ":hidden:", ":glob:", option, "", *documents, "```", ""])


def add_navigation(app: Sphinx, document: str, source: list[str]) -> None:
    if document == app.config.root_doc:
        source[0] += "".join(_toctree(documents, f":caption: {caption}") for caption, documents in NAVIGATION.items())
    if document in CHILDREN:
        source[0] += _toctree(CHILDREN[document])


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", add_navigation)
    return {"parallel_read_safe": True}
