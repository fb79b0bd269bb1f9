"""Studies: from a question in a YAML file to finished runs."""
