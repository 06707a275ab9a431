"""The site's navigation. The start page gets it here, so that its Markdown stays plain where no Sphinx reads it."""

from sphinx.application import Sphinx

START_PAGES = ("docs/index", "docs/index.zh")
# Caption -> documents, as paths from the repository's root.
NAVIGATION = {
    "Start": ["docs/index.zh", "README", "docs/checkpoints", "docs/training", "docs/notebooks/index"],
    "Models": ["docs/wobert", "docs/tta", "docs/matcher", "docs/performer", "docs/sentence_vectors", "docs/xiangqi"],
    "Train": ["docs/pretraining", "docs/losses", "docs/metric_training", "docs/zeroth_order", "docs/generation"],
    "Convert, publish, deploy": ["docs/conversion", "docs/publishing", "docs/deployment"],
    "Reference": [
        "docs/api/index",
        "docs/cards",
        "docs/measurements",
        "docs/compatibility",
        "CONTRIBUTING",
        "CHANGELOG",
    ],
}
# Pages below another page.
CHILDREN = {
    "README": ["README.zh"],
    "docs/notebooks/index": [
        f"docs/notebooks/{name}" for name in ("first_steps", "old_checkpoint", "scoring", "matching", "xiangqi")
    ],
    "docs/conversion": ["conversion/README"],
    "docs/api/index": [f"docs/api/{name}" for name in ("models", "texts", "training", "performer", "xiangqi")],
    "docs/cards": ["model_cards/*", "kexue_hf/assets/README"],
}


def _toctree(documents: list[str], option: str = "") -> str:
    entries = "\n".join(f"/{document}" for document in documents)
    return f"\n\n```{{toctree}}\n:hidden:\n:glob:\n{option}\n\n{entries}\n```\n"


def add_navigation(app: Sphinx, document: str, source: list[str]) -> None:
    if document == app.config.root_doc:
        source[0] += "".join(_toctree(documents, f":caption: {caption}") for caption, documents in NAVIGATION.items())
    if document in CHILDREN:
        source[0] += _toctree(CHILDREN[document])


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", add_navigation)
    return {"parallel_read_safe": True}
