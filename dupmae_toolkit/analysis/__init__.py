"""The words of a text, as Anserini's DefaultEnglishAnalyzer gives them to BM25, without Java.

Documents and queries are analysed here alike, so that a query needs no Java. The chain is Lucene's
(9 and 10): StandardTokenizer, EnglishPossessiveFilter, LowerCaseFilter, StopFilter, PorterStemFilter.
Nothing here depends on the Unicode version of the running Python: see ``characters``.
"""

from dupmae_toolkit.analysis.words import count_words, words

__all__ = ["count_words", "words"]
