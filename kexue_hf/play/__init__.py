"""Playing xiangqi: the policy of a model, a search, and games in the terminal, the browser and other programs."""
