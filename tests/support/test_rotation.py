"""What is rotated is still all tried."""

from support.rotation import rotate


def test_every_value_has_its_turn():
    """Otherwise a rotated test leaves out what its parameters name."""
    assert rotate("abc", [1, 2]) == [("a", 1), ("b", 2), ("c", 1)]
    assert rotate("ab", [1, 2, 3]) == [("a", 1), ("b", 2), ("a", 3)]
