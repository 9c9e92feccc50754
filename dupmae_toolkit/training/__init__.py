"""Pre-training and fine-tuning: data, collators, losses, recipes."""
