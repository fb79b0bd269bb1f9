"""The harness: what runs networks through suites, records what happened, and shows it."""
