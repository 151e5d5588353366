"""The template language of playbooks: a dialect of Jinja, bounded in time and memory (spec 30, section 5)."""

from __future__ import annotations

from noetl.engine.template.compiled import syntax_error
from noetl.engine.template.errors import TemplateError
from noetl.engine.template.limits import DEFAULT_LIMITS, Limits
from noetl.engine.template.render import (
    coerce,
    is_template,
    render_and_coerce,
    render_pipeline,
    render_text,
    render_value,
)

__all__ = [
    "DEFAULT_LIMITS",
    "Limits",
    "TemplateError",
    "coerce",
    "is_template",
    "render_and_coerce",
    "render_pipeline",
    "render_text",
    "render_value",
    "syntax_error",
]
