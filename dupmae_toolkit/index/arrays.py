"""Reading .npy files that anybody may have written: never a pickle, never more than is there."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np

from dupmae_toolkit.errors import InputError

_MAGIC = b"\x93NUMPY"
#: Smaller files are read: mapping them costs more, and empty arrays cannot be mapped.
_MAPPED_FROM = 4096


def read_array(path: Path, kinds: str, dimensions: int = 1) -> np.ndarray:
    """An array, read-only and memory-mapped if it is large.

    kinds: letters of ``dtype.kind`` that will do. Raises InputError for a file that is missing, no
    array of that kind with that many dimensions, or of another size than its header states.
    """
    try:
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise ValueError("no .npy file")
            file.seek(0)
            version = np.lib.format.read_magic(file)
            if version == (1, 0):
                shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            else:
                shape, _, dtype = np.lib.format.read_array_header_2_0(file)
            size = os.fstat(file.fileno()).st_size
            if dtype.kind not in kinds or len(shape) != dimensions or min(shape) < 0:
                raise ValueError(f"holds {dtype} of shape {shape}")
            # Checked before anything is allocated: a header can ask for terabytes.
            if file.tell() + math.prod(shape) * dtype.itemsize != size:
                raise ValueError(f"its {size} bytes are not those of {dtype} of shape {shape}")
        return np.load(path, mmap_mode="r" if size >= _MAPPED_FROM else None, allow_pickle=False)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; the index is not whole") from error
    except Exception as error:  # what a header can make numpy raise is not documented
        text = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: not readable ({text or type(error).__name__})") from error
