"""A trained adapter in use: loading it with its base model, classifying image files, and measuring it."""
