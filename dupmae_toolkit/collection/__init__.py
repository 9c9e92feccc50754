"""Read and write documents, topics, judgements and runs in the field's file formats."""
