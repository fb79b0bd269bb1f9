"""Networks on paper: layer by layer, as a drawing, and beside the literature. Nothing is computed."""
