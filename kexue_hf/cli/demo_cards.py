"""What the cards of `kexue-hf demo` say beyond other cards: the sources of the packaged model, and its limits."""

from pathlib import Path

from kexue_hf.files.card_seal import seal
from kexue_hf.files.whole_file import whole_file

LICENSE = "cc-by-sa-4.0"
SOURCES = """\
The weights of the tiny WoBERT that kexue_hf contains were trained on texts of these sources:

- abstracts of papers: CSL (Li et al., COLING 2022, [ydli-ai/CSL](https://github.com/ydli-ai/CSL)), Apache-2.0
- Chinese Wikipedia: DRCD ([DRCKnowledgeTeam/DRCD](https://github.com/DRCKnowledgeTeam/DRCD)), CC BY-SA 3.0, converted
  to simplified characters; CMRC 2018 ([ymcui/cmrc2018](https://github.com/ymcui/cmrc2018)), CC BY-SA 4.0
- two novels, 红楼梦 and 三国演义, in the public domain

That is why they are under CC BY-SA 4.0."""
LIMITS = (
    "Too weak for real work: 1.7 million parameters, trained on 8.3 MB of text. Use WoBERT or WoBERT+ for that.",
    "Its training text was papers, encyclopaedia articles and classic novels; in other texts it predicts poorly.",
)


def complete_card_of_model(folder: Path) -> None:
    """Add the sources and the limits to the card of the converted model."""
    card = folder / "README.md"
    limits = "\n".join(f"- {limit}" for limit in LIMITS)
    text = f"{card.read_text('utf-8').rstrip()}\n\n## Sources\n\n{SOURCES}\n\n## Limits\n\n{limits}\n"
    with whole_file(card, overwrite=True) as file:
        file.write(seal(text))


def classifier_sections(model_type: str) -> dict[str, str]:
    """Return the sections of the classifier's card that its training does not tell."""
    from kexue_hf.hub.model_facts import facts_of

    limits = "\n".join(f"- {limit}" for limit in (*LIMITS, *facts_of(model_type).limits))
    samples = "The samples of this training and of its figures are openings of CSL's papers, Apache-2.0."
    return {"Sources": f"{SOURCES}\n\n{samples}", "Limits": limits}


__all__ = ["LICENSE", "LIMITS", "SOURCES", "classifier_sections", "complete_card_of_model"]
