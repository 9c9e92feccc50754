"""What users bring: corpora, queries, qrels, BEIR data sets, TREC runs."""
