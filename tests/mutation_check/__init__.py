"""Does every oracle test notice when the statistic it guards is wrong? `python -m tests.mutation_check` tries it."""
