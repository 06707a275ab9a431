"""Convert a trained folder to the packaged tiny WoBERT.

    python examples/export_tiny_asset.py trained kexue_hf/assets/wobert_tiny

The result is in the original TensorFlow format, with rescaled embeddings and dropout. A model that was trained at a
high learning rate has large embeddings, which fine-tuning at a low rate hardly changes. A LayerNorm follows the
embeddings and removes their scale. The tied decoder follows another LayerNorm, whose weight can absorb the scale. So
the embeddings are scaled down and that weight up: the outputs stay equal, and fine-tuning starts at the scale of newly
initialised embeddings (0.02).
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
    """Scale the word embeddings to a standard deviation of `scale` without changing the outputs; return the factor."""
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
    parser.add_argument("folder", type=Path, help="folder saved by pretrain_mlm.py --next_segment")
    parser.add_argument("output", type=Path, help="folder to write")
    options = parser.parse_args()
    model = AutoModelForPreTraining.from_pretrained(options.folder)
    print(f"embeddings times {rescale(model, EMBEDDING_SCALE):.4f}")
    model.config.hidden_dropout_prob = model.config.attention_probs_dropout_prob = DROPOUT
    # At this size, the mean separates classes far better than a pooler trained on next sentences.
    model.config.classifier_pooling = "mean"
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(options.folder).save_pretrained(folder)
        report = export(folder, options.output, to="tf", dtype="float16", overwrite=True)
    print(f"{report.parameters:,} parameters in {report.output}")


if __name__ == "__main__":
    main()
