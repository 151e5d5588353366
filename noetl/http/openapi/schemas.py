"""JSON schemas (2020-12, as in OpenAPI 3.1) of the types that requests are decoded into and answers are made of."""

from __future__ import annotations

import inspect
import re
from typing import Any, Final, cast

import msgspec.inspect as types
from msgspec import NODEFAULT

Schema = dict[str, Any]

REFERENCE: Final = "#/components/schemas/"

_INTERNAL_NOTES: Final = re.compile(r"\s*\((?:spec|fix|00-decisions)[^)]*\)")
_SCALARS: Final[dict[type[types.Type], str]] = {
    types.IntType: "integer",
    types.FloatType: "number",
    types.StrType: "string",
    types.BoolType: "boolean",
    types.NoneType: "null",
}
_CONSTRAINTS: Final = {
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
    "pattern": "pattern",
    "min_length": "minLength",
    "max_length": "maxLength",
}


class Schemas:
    """Collects the schemas of msgspec Structs as components under their names; everything else is written in place.

    ``msgspec.json.schema_components`` has no words for members that stay undecoded (``msgspec.Raw``), and tells the
    default of a member where the absent member has none.
    """

    def __init__(self) -> None:
        self.components: dict[str, Schema] = {}
        self._structs: dict[str, tuple[type, bool]] = {}
        self._written = False

    def read(self, of: Any) -> Schema:
        """The schema of what is decoded into a type: a reference for a Struct.

        Raises:
            ValueError: two Structs have the same name, or one is used both ways.
        """
        return self._schema_of(of, written=False)

    def written(self, of: Any) -> Schema:
        """The schema of what a value of a type is encoded into: only members that are UNSET can be missing.

        Raises:
            ValueError: as `read`.
        """
        return self._schema_of(of, written=True)

    def _schema_of(self, of: Any, *, written: bool) -> Schema:
        self._written = written
        return self._schema(types.type_info(of))

    def _schema(self, of: types.Type) -> Schema:
        if isinstance(of, types.Metadata):
            extra: Schema | None = cast("Any", of).extra_json_schema
            return {**self._schema(of.type), **(extra or {})}
        if isinstance(of, types.StructType):
            return self._reference(of)
        if isinstance(of, types.UnionType):
            return self._union([self._schema(one) for one in of.types])
        if isinstance(of, types.ListType):
            return {"type": "array", "items": self._schema(of.item_type)}
        if isinstance(of, types.TupleType):
            items = [self._schema(item) for item in of.item_types]
            return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
        if isinstance(of, types.DictType):
            return {"type": "object", "additionalProperties": self._schema(of.value_type)}
        if isinstance(of, types.LiteralType):
            values = list(of.values)
            return {"const": values[0]} if len(values) == 1 else {"enum": values}
        if isinstance(of, types.EnumType):
            return {"enum": [member.value for member in of.cls]}
        if isinstance(of, types.DateTimeType):
            return {"type": "string", "format": "date-time"}
        if type(of) in _SCALARS:
            return _scalar(of)
        return {}  # any JSON: Any, msgspec.Raw, orjson.Fragment

    @staticmethod
    def _union(schemas: list[Schema]) -> Schema:
        if len(schemas) == 1:
            return schemas[0]
        names = [schema.get("type") for schema in schemas]
        if all(isinstance(name, str) for name in names) and len(set(names)) == len(names):
            merged = {key: value for schema in schemas for key, value in schema.items()}
            return {**merged, "type": names}
        return {"anyOf": schemas}

    def _reference(self, of: types.StructType) -> Schema:
        name = of.cls.__name__
        wanted = (of.cls, self._written)
        if self._structs.setdefault(name, wanted) != wanted:
            raise ValueError(f"{wanted} and {self._structs[name]} both want to be the schema {name}")
        if name not in self.components:
            schema: Schema = {"type": "object"}
            self.components[name] = schema  # known before its members are looked at: it may contain itself
            if text := documentation(of.cls):
                schema["description"] = text
            schema["properties"] = {field.encode_name: self._member(field) for field in of.fields}
            if required := [field.encode_name for field in of.fields if self._is_required(field)]:
                schema["required"] = required
        return {"$ref": f"{REFERENCE}{name}"}

    def _member(self, field: types.Field) -> Schema:
        schema = self._schema(field.type)
        if not self._written and isinstance(field.default, bool | int | float | str):
            return {**schema, "default": field.default}
        return schema

    def _is_required(self, field: types.Field) -> bool:
        has_default = field.default is not NODEFAULT or field.default_factory is not NODEFAULT
        return field.required or (self._written and has_default)


def documentation(of: type) -> str:
    """The docstring of a class for readers of the API: without our sources, with Markdown's backticks."""
    text = inspect.cleandoc(of.__dict__.get("__doc__") or "")
    return _INTERNAL_NOTES.sub("", text).replace("``", "`")


def _scalar(of: types.Type) -> Schema:
    schema: Schema = {"type": _SCALARS[type(of)]}
    for name, keyword in _CONSTRAINTS.items():
        if (value := getattr(of, name, None)) is not None:
            schema[keyword] = value
    if schema.get("maximum") == 2**63 - 1:
        schema["format"] = "int64"
    elif schema.get("maximum") == 2**31 - 1:
        schema["format"] = "int32"
    return schema
