"""Render a model card from what is known about a model. `card_completion` completes cards that people wrote."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kexue_hf.conversion.model_card import auto_class, loading_code, pipeline_tag
from kexue_hf.files.card_seal import seal
from kexue_hf.files.utf8_text import utf8_text
from kexue_hf.hub.markdown import code, plain, table
from kexue_hf.hub.model_facts import Post, facts_of

# Sections in their order; others come before the last ones.
DATA = "Data and licence"
_ORDER = ("Tasks", "Accuracy", "Use", "Reliability", DATA, "Training", "Figures")
UNKNOWN_LICENSE = "The licence of the weights depends on the initial weights and on the training data."
_LAST = ("Limits", "Decision rule", "Citation")


@dataclass(frozen=True)
class Figure:
    """A measured value.

    Attributes:
        name: what readers see.
        value: the number.
        metric: the Hub's name of the metric, like accuracy or f1; None leaves it out of the metadata.
    """

    name: str
    value: float
    metric: str | None = None


@dataclass(frozen=True)
class CardFacts:
    """What is known about a model. The card leaves out the rest.

    Texts may hold names with bytes that are not UTF-8; the attributes hold U+FFFD in their place.

    Attributes:
        name: the folder's name.
        model_type: that of config.json.
        architecture: the class that was saved.
        license: the Hub's id of the licence.
        language: the Hub's codes of the languages.
        base_model: names on the Hub of the models that it started from.
        datasets: names on the Hub of the data sets that it was trained on.
        tags: beyond those of the model type.
        word_tokenizer: the tokenizer needs a word segmenter.
        summary: the paragraph under the title; by default that of the model type.
        trained_on: names of the training files.
        evaluated_on: names of the files of the figures.
        training: further facts about the training, by name.
        figures: measured values.
        command: the command that gives the figures.
        own_code: the model's class is not one of transformers.
        own_tokenizer: the tokenizer's class is not one of transformers.
        adapter: the folder holds an adapter of PEFT, and neither a whole model nor code.
        sections: further sections, or replacements of the usual ones: {heading: Markdown}.
        post: the post to cite, if it is not that of the model type.
    """

    name: str
    model_type: str
    architecture: str
    license: str | None = None
    language: tuple[str, ...] = ()
    base_model: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    word_tokenizer: bool = False
    own_code: bool = True
    own_tokenizer: bool = True
    adapter: bool = False
    summary: str = ""
    trained_on: tuple[str, ...] = ()
    evaluated_on: tuple[str, ...] = ()
    training: Mapping[str, Any] = field(default_factory=dict)
    figures: Sequence[Figure] = ()
    command: str | None = None
    sections: Mapping[str, str] = field(default_factory=dict)
    post: Post | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            object.__setattr__(self, name, _writable(value))


def card_data(facts: CardFacts) -> Any:
    """Return the metadata as `huggingface_hub.ModelCardData`."""
    from huggingface_hub import EvalResult, ModelCardData

    known, task = facts_of(facts.model_type), pipeline_tag(facts.architecture)
    language = facts.language or ((known.language,) if known.language else ())
    evaluated_on = ", ".join(facts.evaluated_on) or "held-out rows"
    results = [
        EvalResult(
            task_type=task,
            dataset_type=re.sub(r"[^\w.-]+", "-", evaluated_on).strip("-") or "held-out",
            dataset_name=evaluated_on,
            metric_type=figure.metric,
            metric_name=figure.name,
            metric_value=round(figure.value, 4),
        )
        for figure in facts.figures
        if figure.metric
    ]
    return ModelCardData(
        library_name="peft" if facts.adapter else "transformers",
        license=facts.license,
        language=_one_or_list(language),
        base_model=_one_or_list(facts.base_model),
        datasets=list(facts.datasets) or None,
        pipeline_tag=task,
        tags=[facts.model_type, *known.tags, *facts.tags, "kexue-hf"],
        # Results are listed under the model's name.
        model_name=facts.name if results else None,
        eval_results=results or None,
    )


def render_card(facts: CardFacts) -> str:
    """Return a whole card with its checksum."""
    from huggingface_hub import ModelCard

    parts = [f"# {plain(facts.name)}", _summary(facts)]
    parts += [f"## {heading}\n\n{text.strip()}" for heading, text in card_sections(facts).items()]
    return seal(str(ModelCard(f"---\n{card_data(facts).to_yaml()}\n---\n" + "\n\n".join(parts) + "\n")))


def card_sections(facts: CardFacts) -> dict[str, str]:
    """Return the sections, {heading: Markdown}, in their order."""
    known = facts_of(facts.model_type)
    post = facts.post or known.post
    usual = {
        "Use": _use(facts),
        DATA: _data(facts),
        "Training": table([["", ""], *([name, plain(str(value))] for name, value in facts.training.items())])
        if facts.training
        else "",
        "Figures": _figures(facts),
        "Limits": "\n".join(f"- {limit}" for limit in known.limits),
        "Citation": f"The method is described in [a post of kexue.fm]({post.address}).\n\n"
        f"```bibtex\n{post.bibtex()}\n```"
        if post
        else "",
    }
    found = {heading: text for heading, text in {**usual, **facts.sections}.items() if text.strip()}
    middle = [heading for heading in found if heading not in (*_ORDER, *_LAST)]
    return {heading: found[heading] for heading in (*_ORDER, *middle, *_LAST) if heading in found}


def _writable(value: Any) -> Any:
    """Return a text, or the texts in a tuple or a mapping, as UTF-8 can hold them; anything else as it is."""
    if isinstance(value, str):
        return utf8_text(value)
    if isinstance(value, tuple):
        return tuple(map(_writable, value))
    return {key: _writable(item) for key, item in value.items()} if isinstance(value, Mapping) else value


def _one_or_list(values: Sequence[str]) -> Any:
    return None if not values else values[0] if len(values) == 1 else list(values)


def _summary(facts: CardFacts) -> str:
    known = facts_of(facts.model_type)
    post = f" ([post]({known.post.address}))" if known.post and not facts.summary else ""
    return facts.summary or f"{known.summary.rstrip('.')}{post}."


def _use(facts: CardFacts) -> str:
    name = json.dumps(facts.name, ensure_ascii=False)
    lines = loading_code(
        auto_class(facts.architecture),
        name,
        own_model=facts.own_code,
        own_tokenizer=facts.own_tokenizer,
        cuts_words=facts.word_tokenizer,
        has_code=not facts.adapter,
    )
    return "\n".join(lines)


def _data(facts: CardFacts) -> str:
    trained_on = [f"Trained on {', '.join(code(name) for name in facts.trained_on)}."] if facts.trained_on else []
    return " ".join([*trained_on, *data_sentences(facts).values()])


def data_sentences(facts: CardFacts) -> dict[str, str]:
    """Return the sentences on what the metadata has as well, {field: sentence}, in their order."""
    found = {}
    if facts.datasets:
        names = (f"[{plain(name)}](https://huggingface.co/datasets/{name})" for name in facts.datasets)
        found["datasets"] = f"Data sets: {', '.join(names)}."
    if facts.base_model:
        models = (f"[{name}](https://huggingface.co/{name})" for name in facts.base_model)
        found["base_model"] = f"Started from {', '.join(models)}."
    found["license"] = f"The licence of the weights is {code(facts.license)}." if facts.license else UNKNOWN_LICENSE
    return found


def _figures(facts: CardFacts) -> str:
    if not facts.figures:
        return ""
    measured = f"Measured on {', '.join(code(name) for name in facts.evaluated_on)}.\n\n" if facts.evaluated_on else ""
    rows = table([["Figure", "Value"], *([plain(figure.name), f"{figure.value:.4f}"] for figure in facts.figures)])
    command = f"\nThe command that gives them:\n\n```bash\n{facts.command}\n```" if facts.command else ""
    return f"{measured}{rows}{command}"


__all__ = [
    "DATA",
    "UNKNOWN_LICENSE",
    "CardFacts",
    "Figure",
    "card_data",
    "card_sections",
    "data_sentences",
    "render_card",
]
