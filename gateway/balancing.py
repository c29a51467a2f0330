"""Which endpoint answers next: pure choices over what is known of an upstream's endpoints."""


def round_robin(count: int, turn: int) -> int:
    """The index of the endpoint whose turn it is; `turn` grows by one with every pick."""
    return turn % count
