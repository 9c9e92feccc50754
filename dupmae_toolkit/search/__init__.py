"""How a search is answered, and how its ranking is proven.

Where every leg computes all its scores, `exhaustive.py` scores all documents and proves the sum by
an error bound (`arithmetic.rounding`, `int8.Int8Bound`). Otherwise `ranking.py` searches each leg
deeper until its list is settled, `engine.py` completes the missing scores and fuses, and `proof.py`
compares the k-th score with a threshold. `answers.Certificate` records the result.
"""
