"""Records -> findings: comparisons, studies, claims, and checks of what a report says. No torch import."""
