"""Statistics of ablations, without torch: intervals, paired tests, power, ties, factors, sequential analyses."""
