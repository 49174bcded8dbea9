"""What is minimised; independent of which gradient is followed."""
