"""Playing xiangqi: the policy of a model, a search, a game in the terminal, and an engine for UCI and UCCI."""
