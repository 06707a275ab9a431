"""Loading a pre-trained folder into any head reports missing weights, and no unexpected ones."""

from pathlib import Path

import pytest

import kexue_hf
from tests.models.tiny_models import class_names, tiny_model

FULL = {
    "WoBert": "WoBertForPreTraining",
    "Nezha": "NezhaForPreTraining",
    "Tta": "TtaForMaskedLM",
    "PerformerBert": "PerformerBertForMaskedLM",
    "ClnMatcher": "ClnMatcherForSequenceClassification",
    "SimSiam": "SimSiamModel",
    "XiangqiGpt": "XiangqiGptForCausalLM",
}


@pytest.mark.parametrize("name", class_names())
def test_nothing_is_reported_as_unexpected(name: str, tmp_path: Path) -> None:
    prefix = next(prefix for prefix in FULL if name.startswith(prefix))
    tiny_model(FULL[prefix]).save_pretrained(tmp_path)
    _, found = getattr(kexue_hf, name).from_pretrained(tmp_path, output_loading_info=True)
    # A matcher's encoder reports the classifier, which may be another model's.
    reported = {key for key in found["unexpected_keys"] if name != "ClnMatcherModel" or "classifier" not in key}
    assert not reported
    new = {key.split(".")[0] for key in found["missing_keys"]}
    assert new <= {"classifier", "qa_outputs", "bert", "nezha"}
    assert all(".pooler." in key for key in found["missing_keys"] if key.split(".")[0] in ("bert", "nezha"))
