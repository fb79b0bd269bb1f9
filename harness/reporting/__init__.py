"""Findings -> what people read: tables, figures, one HTML page. No torch import."""
