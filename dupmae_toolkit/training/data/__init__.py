"""What a training reads: texts, pairs and groups, and the batches made of them."""
