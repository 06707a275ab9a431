"""An untrained encoder of characters whose vectors start as tf-idf: a BERT without layers.

Each character has a random direction. Its length is proportional to the character's rarity, so the mean over a text is
a random projection of its tf-idf vector. BERT's layer norm gives all tokens the same length, so what a frequent
character lacks is put into two further dimensions, which the norm's scale of zero then takes away.
"""

from collections import Counter
from pathlib import Path

import torch
from similarity import rarity
from transformers import BertConfig, BertModel, BertTokenizer

SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
HIDDEN = 2


def write_rarity_encoder(folder: Path, texts: list[str], own: list[str], hidden_size: int, dropout: float) -> None:
    """Write the encoder and its tokenizer.

    Args:
        texts: texts whose characters are the vocabulary.
        own: texts that tell the rarities.
    """
    characters = Counter(character for text in texts for character in "".join(text.split()))
    tokens = [*SPECIAL_TOKENS, *(character for character, _ in characters.most_common())]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    tokenizer = BertTokenizer(vocab=str(folder / "vocab.txt"))
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        num_hidden_layers=0,
        num_attention_heads=1,
        intermediate_size=1,
        max_position_embeddings=64,
        type_vocab_size=1,
        hidden_dropout_prob=dropout,
    )
    model = BertModel(config, add_pooling_layer=False)
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(len(tokens), hidden_size - HIDDEN, generator=generator)
    directions -= directions.mean(1, keepdim=True)
    directions /= directions.norm(dim=1, keepdim=True)
    known = rarity(own)
    lengths = torch.tensor([known.get(token, known[""]) for token in tokens])
    lengths /= lengths.max()
    lengths[: len(SPECIAL_TOKENS)] = 0.02
    rest = (1 - lengths**2).clamp_min(0).sqrt() / HIDDEN**0.5
    embeddings = model.embeddings
    with torch.no_grad():
        content = torch.cat([directions * lengths[:, None], rest[:, None], -rest[:, None]], dim=1)
        embeddings.word_embeddings.weight.copy_(content * hidden_size**0.5)
        embeddings.position_embeddings.weight.mul_(0.1)
        embeddings.token_type_embeddings.weight.zero_()
        embeddings.LayerNorm.weight[-HIDDEN:] = 0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
