"""Images as a frozen image tower sees them, encoded once."""
