"""The asset graph, one module per layer: thin wrappers that open the warehouse, call `pipeline`, and show
what came of it.

What does not belong here: what a table holds (`sql/`), and in which order it is folded without Dagster
(`pipeline`).
"""
