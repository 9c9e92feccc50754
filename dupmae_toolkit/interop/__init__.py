"""Other programs: Pyserini, CIFF, files of vectors, the Hugging Face hub."""
