"""Registration with transformers' Auto classes, without importing them."""


def install() -> None:
    """Arrange the registration."""
