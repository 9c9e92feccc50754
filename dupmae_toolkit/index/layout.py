"""The name of every file and folder that an index has on disk.

    INDEX/
      manifest.json             what the index is: encoder, scale, segments, checksums of all files
      vocabulary.json           the encoder's tokens in the order of their ids
      segments/000001/          a segment; row i of every part is the same document
        faiss/index             the dense vectors, as a FAISS index
        faiss/docid             the ids of the rows, one per line
        lucene/                 the impacts, as a Lucene index; Lucene names its files itself
        forward/impacts-*.npy   the impacts, as the arrays of a CSR matrix and its shape: first a
                                column for each token, then one for each word of the documents
        forward/impacts-words.txt         these words, one per line, in the order of code points
        forward/impacts-lengths.npy       the length of each document, in words
        forward/impacts-frequencies.npy   for each column, how many documents have it
        forward/dense.npy       the dense vectors, unless FAISS gives them back exactly (spec Flat)
        documents.parquet       id, title, text and metadata
      deletions/000001-3.npy    the deleted rows of segment 000001, as of change 3
      .building/                the working files of a build that is running or was killed
        build.json              what is being built, and the names of its segments
        segment-000001.json     a finished segment: its counts and checksums
        encoded/                the encoded corpus
      .adding/0a1b2c3d4e5f/     the working files of an addition; named by a digest of its source
        encoded/                the encoded new documents
      .tmp-*                    half-written files and folders, here and in segments/ (see files.py)

There are no lock files: processes lock the folders themselves (see locks.py).
"""

from __future__ import annotations

import re

# In an index's folder.
MANIFEST_FILE = "manifest.json"
VOCABULARY_FILE = "vocabulary.json"
VOCABULARY_FILES = "vocabulary*.json"  #: a pattern for ``glob``
SEGMENTS_FOLDER = "segments"
DELETIONS_FOLDER = "deletions"
BUILDING_FOLDER = ".building"
ADDING_FOLDER = ".adding"

# In .building and in the folders of .adding.
PLAN_FILE = "build.json"
ENCODED_FOLDER = "encoded"

# In a segment's folder.
FAISS_FOLDER = "faiss"
LUCENE_FOLDER = "lucene"
FORWARD_FOLDER = "forward"
DOCUMENTS_FILE = "documents.parquet"

# In faiss/; Pyserini's FAISS folders have the same two files.
FAISS_FILE = "index"
IDS_FILE = "docid"

# In forward/.
DENSE_FILE = "dense.npy"
IMPACT_ARRAYS = ("indptr", "indices", "data", "shape")


def impact_file(array: str) -> str:
    """The file in forward/ that holds one of IMPACT_ARRAYS."""
    return f"impacts-{array}.npy"


IMPACT_FILES = tuple(map(impact_file, IMPACT_ARRAYS))
# Indexes of formats 1 and 2 lack these; one without BM25 has only frequencies.
FREQUENCIES_FILE = "impacts-frequencies.npy"
WORDS_FILE = "impacts-words.txt"
LENGTHS_FILE = "impacts-lengths.npy"
ADDED_FILES = (FREQUENCIES_FILE, WORDS_FILE, LENGTHS_FILE)

# The parts of a segment, relative to its folder. A part with a damaged file is rebuilt as a whole.
IDS = f"{FAISS_FOLDER}/{IDS_FILE}"
VECTORS = f"{FAISS_FOLDER}/{FAISS_FILE}"
LUCENE = LUCENE_FOLDER
IMPACTS = f"{FORWARD_FOLDER}/impacts"  #: how the paths of IMPACT_FILES begin
LENGTHS = f"{FORWARD_FOLDER}/{LENGTHS_FILE}"
DENSE = f"{FORWARD_FOLDER}/{DENSE_FILE}"
DOCUMENTS = DOCUMENTS_FILE


def part_of(name: str) -> str:
    """The part of a segment that a file belongs to; ``name``: its path in the segment's folder."""
    for part in (LUCENE, IMPACTS):
        if name != LENGTHS and name.startswith((f"{part}/", f"{part}-")):
            return part
    return name


def segment_name(number: int) -> str:
    """The name of a segment's folder in segments/."""
    return f"{number:06d}"


def record_file(segment: str) -> str:
    """The file in .building that records a finished segment."""
    return f"segment-{segment}.json"


def deletions_path(segment: str, generation: int) -> str:
    """The file that names the deleted rows of a segment, relative to the index."""
    return f"{DELETIONS_FOLDER}/{segment}-{generation}.npy"


def other_vocabulary_file(digest: str) -> str:
    """A vocabulary's file while VOCABULARY_FILE still belongs to the index being replaced."""
    return f"vocabulary-{digest[:8]}.json"


# The only names accepted from a manifest, which may come from anybody.
SEGMENT_NAME = re.compile(r"[0-9]{1,12}", re.ASCII)
DELETIONS_PATH = re.compile(r"deletions/[0-9]{1,12}-[0-9]{1,18}\.npy", re.ASCII)
VOCABULARY_NAME = re.compile(r"vocabulary[0-9a-f-]{0,64}\.json", re.ASCII)
