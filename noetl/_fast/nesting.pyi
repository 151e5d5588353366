"""How deep a JSON text nests, without decoding it (spec 10, section 2.4)."""

def depth_of(text: bytes) -> int:
    """Nesting depth of a JSON text: 0 for a scalar, 1 for ``{}``; brackets inside strings do not count.

    The depth of what is no JSON is unspecified, but bytes outside of ``text`` are never read.
    """
