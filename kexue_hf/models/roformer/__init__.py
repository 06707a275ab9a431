"""RoFormer: a BERT with rotary positions (https://kexue.fm/archives/8265). The model class is transformers' own."""
