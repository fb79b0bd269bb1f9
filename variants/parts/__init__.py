"""What networks are made of: one U skeleton, blocks, skips, attention, embeddings, resampling."""
