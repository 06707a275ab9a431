"""WoBERT: a Chinese BERT whose unit is the word (https://kexue.fm/archives/7758)."""
