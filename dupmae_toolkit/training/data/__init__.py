"""Training data: texts, pairs and groups, and the batches made of them."""
