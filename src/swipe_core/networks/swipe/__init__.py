"""SwIPE: an encoder to patch embeddings, and a decoder that answers at any coordinate."""
