"""What happens when an index is damaged.

- When an index is opened, ``index/integrity.py`` compares with the manifest the size of every file
  except texts, and the SHA-256 of small files and of those that are read whole. Texts are checked
  when they are first read. A damaged file is refused by name. ``check="full"`` compares all
  checksums, ``check="sizes"`` only the manifest's own.
- When a part of a segment is opened, ``index/segment.py`` refuses one that does not have the shape
  that the manifest states: documents, terms, dimensions.
- Before a segment is merged or compacted, every file that is read is checked in full, so that
  damage does not get into a new segment.
- ``dupmae verify`` (``verify.py``) reads everything. It finds files that are missing, changed or
  not in the manifest, and, with ``comparison.py``, parts of a segment that disagree although their
  files are unchanged.
- ``dupmae verify --repair`` (``repair.py``) makes a new segment in place of a damaged one
  (``salvage.py``): each part is rebuilt from another part that holds the same, and vectors that are
  lost everywhere are encoded again from the texts. Texts, deletions and the manifest exist only
  once: they are reported, with what to do.
"""
