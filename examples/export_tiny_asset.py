"""Turn a trained folder into the packaged tiny WoBERT: rescaled embeddings, dropout, original TensorFlow format.

    python examples/export_tiny_asset.py trained kexue_hf/assets/wobert_tiny

A model that was trained at a large learning rate has large embeddings, which fine-tuning at a small rate hardly moves.
They stand before a LayerNorm, which does not see their scale, and the tied decoder stands behind another, whose weight
can take the scale up: divided here and multiplied there, the model computes what it did, and starts to be fine-tuned
at the scale of a newly initialised one (0.02).
"""

import argparse
import tempfile
from pathlib import Path

import torch
from transformers import AutoModelForPreTraining, AutoTokenizer

from kexue_hf import export

EMBEDDING_SCALE = 0.02
DROPOUT = 0.1


def rescale(model: torch.nn.Module, scale: float) -> float:
    """Bring the standard deviation of the word embeddings to `scale` without changing what `model` computes; returns
    the factor."""
    embeddings, norm = model.bert.embeddings, model.cls.predictions.transform.LayerNorm
    with torch.no_grad():
        factor = scale / float(embeddings.word_embeddings.weight.std())
        for table in (embeddings.word_embeddings, embeddings.position_embeddings, embeddings.token_type_embeddings):
            table.weight.mul_(factor)
        norm.weight.div_(factor)
        norm.bias.div_(factor)
    return factor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="what pretrain_mlm.py --next_segment saved")
    parser.add_argument("output", type=Path, help="folder to make")
    options = parser.parse_args()
    model = AutoModelForPreTraining.from_pretrained(options.folder)
    print(f"embeddings times {rescale(model, EMBEDDING_SCALE):.4f}")
    model.config.hidden_dropout_prob = model.config.attention_probs_dropout_prob = DROPOUT
    # For a model of this size the mean tells classes apart, a pooler trained on next sentences hardly does.
    model.config.classifier_pooling = "mean"
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(options.folder).save_pretrained(folder)
        report = export(folder, options.output, to="tf", dtype="float16", overwrite=True)
    print(f"{report.parameters:,} parameters in {report.output}")


if __name__ == "__main__":
    main()
