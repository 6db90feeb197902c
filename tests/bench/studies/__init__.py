"""What each optimizer reaches when tuned alike, on three small tasks; `__main__` has the commands.

`python -m tapeout.tests.bench.studies run` trains what is not yet in results.jsonl, `tables`
prints what the rows say, `sides` how the preconditioners of these very tasks survive storing.
docs/optimizers.md holds the tables and what they mean.
"""
