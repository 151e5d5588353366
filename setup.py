"""Builds the Cython extensions of ``noetl._fast``; everything else about the package is in ``pyproject.toml``.

Environment: ``NOETL_CYTHON_ANNOTATE=1`` writes the annotated HTML beside the generated C (``build/cython``).
"""

from __future__ import annotations

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": False,
    "wraparound": False,
    "cdivision": True,
    "embedsignature": False,
}


def extensions() -> list[Extension]:
    """One extension per ``.pyx`` below ``noetl``, named after its path."""
    return [
        Extension(".".join(source.with_suffix("").parts), [str(source)], extra_compile_args=["-O3"])
        for source in sorted(Path("noetl").rglob("*.pyx"))
    ]


setup(
    ext_modules=cythonize(
        extensions(),
        build_dir="build/cython",
        compiler_directives=DIRECTIVES,
        annotate=os.environ.get("NOETL_CYTHON_ANNOTATE") == "1",
    )
)
