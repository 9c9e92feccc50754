"""Makes training examples: hard negatives from searches, and teachers' scores."""
