"""Secret stores and token services, one module each (spec 40, section 8a)."""
