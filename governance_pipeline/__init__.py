"""The warehouse and its answers."""
