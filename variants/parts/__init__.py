"""What networks are made of: one encoder-decoder, blocks, skips, attention, embeddings, resampling."""
