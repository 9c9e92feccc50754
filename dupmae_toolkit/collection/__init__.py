"""Documents, topics, judgements and runs, read from and written to the field's file formats."""
