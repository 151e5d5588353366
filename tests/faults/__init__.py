"""Faults: processes die while they work, and SQL shows that nothing was lost or done twice."""
