"""What the workers of a DataLoader run; apart, for spawned ones import the module that it is in."""

from typing import Any


class Collate:
    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def __call__(self, texts: list[str]) -> Any:
        return self.tokenizer(texts, padding=True, return_tensors="np")
