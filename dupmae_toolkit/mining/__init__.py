"""Training examples made with a search in hand: hard negatives, and teachers' scores."""
