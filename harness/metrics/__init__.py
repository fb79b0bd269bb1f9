"""Metrics, one file per family. Each number leaves its file as a :class:`harness.record.Metric`."""
