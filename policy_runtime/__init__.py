"""The live gate."""
