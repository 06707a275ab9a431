"""One text matcher for many standards of "similar": a RoFormer or BERT whose layer norms are told the standard."""
