"""The networks, their layers and losses, and model files."""
