"""Features of a frozen image tower, computed once."""
