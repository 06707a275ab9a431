"""A text matcher for several standards of "similar": a RoFormer or BERT with conditional layer norms."""
