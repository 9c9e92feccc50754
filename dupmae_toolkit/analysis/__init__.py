"""The words of a text, as Anserini's DefaultEnglishAnalyzer gives them to BM25, without Java.

Documents and queries are analysed alike, and a query needs no Java. The chain is that of Lucene 9
and 10: StandardTokenizer, EnglishPossessiveFilter, LowerCaseFilter, StopFilter, PorterStemFilter.
No difference from it is known, whatever the text and whichever Unicode Python has.
"""

from dupmae_toolkit.analysis.filters import count_words, word_spans, words

__all__ = ["count_words", "word_spans", "words"]
