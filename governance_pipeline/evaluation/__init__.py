"""Evaluation: whether answers are as good as they were, beside what they cost.

    suites       evaluation.yaml: which cases, which scorers, what counts as a regression
    scorers      an answer against its case: exact, contained, schema, a function, a judge
    recorded     answers from a file, so that a suite runs offline and the same each time
    results      evaluations.jsonl, the log that every result stands in
    runs         running a suite through `call_llm`
    regression   the latest run against the accepted one
    production   a sample of real traffic, scored by what its telemetry says

Neither prompts nor answers are written anywhere. What does not belong here: how Dagster runs any of it
(`assets.evaluation`), and the command (`cli.evaluate`).
"""
