"""The store's statements as PostgreSQL reads them.

The store writes each statement once, as SQLite reads it. What PostgreSQL calls otherwise, or does otherwise, is
translated here: functions, operators and types of SQLAlchemy's statements by a compiler that only our engines use, and
the few statements that are plain SQL by `translate`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from sqlalchemy import JSON, Cast, Column, ColumnClause, Engine, Insert, Integer, LargeBinary, Numeric, Select, String
from sqlalchemy.dialects.postgresql.base import PGTypeCompiler
from sqlalchemy.dialects.postgresql.psycopg import PGCompiler_psycopg
from sqlalchemy.sql.elements import BinaryExpression, Case, False_, Null, True_
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.selectable import ScalarSelect, TableValuedAlias

_OR_IGNORE = "OR IGNORE"
_LISTED = "SELECT value FROM json_each(?)"
_LISTED_HERE = "SELECT value::bigint FROM json_array_elements_text(?::json) AS value"
_ELEMENT = re.compile(r"'\$\[(\d)\]'")
_BOUNDS = {
    "''": "'\\x02'::bytea",
    "x''": "'\\x03'::bytea",
    "x'00'": "'\\x0300'::bytea",
    "x'01'": "'\\x0301'::bytea",
}
_QUOTED = re.compile(r"'[^']*'|\?|%")


class Types(PGTypeCompiler):
    """Texts of any length, in order of their bytes, as SQLite keeps them."""

    def visit_TEXT(self, type_: String, **kw: Any) -> str:  # noqa: ANN401
        """Name the type of a text; where it is that of a column, with its collation."""
        return 'TEXT COLLATE "C"' if isinstance(kw.get("type_expression"), Column) else "TEXT"

    visit_VARCHAR = visit_string = visit_text = visit_TEXT


class Compiler(PGCompiler_psycopg):
    """Writes what the store asks of SQLite for PostgreSQL."""

    def visit_insert(self, insert_stmt: Insert, *args: Any, **kw: Any) -> str:  # noqa: ANN401
        """Write an INSERT, and `INSERT OR IGNORE` as one that passes over conflicts."""
        text: str = super().visit_insert(insert_stmt, *args, **kw)  # type: ignore[no-untyped-call]
        start, ignores, rest = text.partition(f" {_OR_IGNORE} ")
        return f"{start} {rest} ON CONFLICT DO NOTHING" if ignores and start == "INSERT" else text

    def _on_conflict_target(self, clause: Any, **kw: Any) -> str:  # noqa: ANN401
        """Write which columns conflict; the store names them."""
        return f"({', '.join(str(getattr(each, 'name', each)) for each in clause.inferred_target_elements)})"

    def visit_in_op_binary(self, binary: BinaryExpression[Any], operator: object, **kw: Any) -> str:  # noqa: ANN401
        """Write IN; a list that is one parameter becomes a set that the server joins, by an index or by hashing.

        `= ANY (array)` would compare each row with each value where the server reads a whole table.
        """
        found = _list_of(binary.right)
        if found is None:
            return str(self._generate_generic_binary(binary, " IN ", **kw))
        left, values = binary.left._compiler_dispatch(self, **kw), self._arguments(found[0], kw)
        if found[1]:
            return f"{left} IN (SELECT unnest(translate({values}, '[]', '{{}}')::bigint[]))"
        return f"{left} IN (SELECT json_array_elements_text(({values})::json))"

    def visit_case(self, clause: Case[Any], **kw: Any) -> str:  # noqa: ANN401
        """Write CASE, and the value of a name of metadata, every kind of which has its key here."""
        value: Any = clause.value
        if getattr(value, "name", None) == "json_type":
            return f"clipsearch_key({self._member(value, kw)})"
        return str(super().visit_case(clause, **kw))  # type: ignore[no-untyped-call]

    def visit_is_not_binary(self, binary: BinaryExpression[Any], operator: object, **kw: Any) -> str:  # noqa: ANN401
        """Write IS NOT, which compares with NULL and truth values only here."""
        left, right = binary.left._compiler_dispatch(self, **kw), binary.right._compiler_dispatch(self, **kw)
        is_plain = isinstance(binary.right, Null | True_ | False_)
        return f"{left} IS {'NOT' if is_plain else 'DISTINCT FROM'} {right}"

    def visit_like_op_binary(self, binary: BinaryExpression[Any], operator: object, **kw: Any) -> str:  # noqa: ANN401
        """Write LIKE without case, as it is in SQLite."""
        left, right = binary.left._compiler_dispatch(self, **kw), binary.right._compiler_dispatch(self, **kw)
        return f"{left} ILIKE {right}"

    def visit_cast(self, cast: Cast[Any], **kw: Any) -> str:  # noqa: ANN401
        """Write a cast; one of a fraction to a whole number rounds towards zero, as in SQLite."""
        if isinstance(cast.type, Integer) and isinstance(cast.clause.type, Numeric):
            return f"CAST(trunc({self.process(cast.clause, **kw)}) AS BIGINT)"
        return str(super().visit_cast(cast, **kw))  # type: ignore[no-untyped-call]

    def visit_column(self, column: ColumnClause[Any], *args: Any, **kw: Any) -> str:  # noqa: ANN401
        """Write a column, and the bounds between the kinds of values of metadata; see postgres/functions.py."""
        if getattr(column, "is_literal", False) and (bound := _BOUNDS.get(str(column.name))) is not None:
            return bound
        return super().visit_column(column, *args, **kw)

    def visit_instr_func(self, fn: FunctionElement[Any], **kw: Any) -> str:  # noqa: ANN401
        """Write the place of a text in another, or in the key of a text."""
        whole, part = fn.clauses
        if not isinstance(whole.type, LargeBinary):
            return f"strpos({self._arguments(fn, kw)})"
        sought = f"convert_to({self.process(part, **kw)}, 'UTF8')"
        return f"position({sought} IN substring({self.process(whole, **kw)} FROM 2))"

    def visit_json_type_func(self, fn: FunctionElement[Any], **kw: Any) -> str:  # noqa: ANN401
        """Write the type of a value of metadata."""
        return f"clipsearch_kind({self._member(fn, kw)})"

    def visit_json_extract_func(self, fn: FunctionElement[Any], **kw: Any) -> str:  # noqa: ANN401
        """Write the key of a value of metadata, or of one that it is compared with; or an element of a list."""
        whole, path = fn.clauses
        where = str(getattr(path, "name", ""))
        if where == "'$'":
            return f"clipsearch_key(({self.process(whole, **kw)})::json)"
        if found := _ELEMENT.fullmatch(where):
            kind = "bigint" if isinstance(fn.type, Integer) else "text"
            return f"({self.process(whole, **kw)} ->> {found[1]})::{kind}"
        return f"clipsearch_key({self._member(fn, kw)})"

    def _member(self, fn: FunctionElement[Any], kw: dict[str, Any]) -> str:
        """Write a value of metadata by its path, which is `$."NAME"`."""
        path = self.process(list(fn.clauses)[1], **kw)
        return f"(item_metadata.data::json -> substr({path}, 4, length({path}) - 4))"

    def visit_typeof_func(self, fn: FunctionElement[Any], **kw: Any) -> str:  # noqa: ANN401
        """Write the type of a value, which only its column decides here."""
        (value,) = fn.clauses
        kind = "real" if isinstance(value.type, Numeric) else "text" if isinstance(value.type, String) else "integer"
        return f"(CASE WHEN {self.process(value, **kw)} IS NULL THEN 'null' ELSE '{kind}' END)"

    def visit_strftime_func(self, fn: FunctionElement[Any], **kw: Any) -> str:  # noqa: ANN401
        """Write a time in seconds since 1970 as local time, ISO 8601; the session has the time zone of the client."""
        seconds = self.process(list(fn.clauses)[1], **kw)
        return f"to_char(to_timestamp({seconds}), 'YYYY-MM-DD\"T\"HH24:MI:SS')"

    def visit_json_each_func(self, fn: FunctionElement[Any], **kw: Any) -> str:  # noqa: ANN401
        """Write a table of the values of a JSON list, of the type that its column says."""
        if len(list(fn.clauses)) > 1:
            return f"clipsearch_elements({self._member(fn, kw)})"
        columns = list(getattr(fn.type, "_elements", ()))
        values = f"json_array_elements(({self._arguments(fn, kw)})::json) AS value"
        if columns and isinstance(columns[0].type, String):
            return f"(SELECT value #>> '{{}}' AS value FROM {values})"
        if columns and isinstance(columns[0].type, Integer):
            return f"(SELECT (value #>> '{{}}')::bigint AS value FROM {values})"
        if columns and isinstance(columns[0].type, JSON):
            return f"(SELECT value FROM {values})"
        return f"(SELECT clipsearch_key(value) AS value FROM {values})"

    def _arguments(self, fn: FunctionElement[Any], kw: dict[str, Any]) -> str:
        return ", ".join(self.process(each, **kw) for each in fn.clauses)


def _list_of(right: object) -> tuple[FunctionElement[Any], bool] | None:
    """Return the list of a query for the values of one, and whether these are numbers; None for another query."""
    query = right.element if isinstance(right, ScalarSelect) else None
    froms = query.get_final_froms() if isinstance(query, Select) else []
    if len(froms) != 1 or not isinstance(froms[0], TableValuedAlias):
        return None
    function: Any = froms[0].element
    kind = next(iter(froms[0].c)).type
    is_list = getattr(function, "name", None) == "json_each" and len(list(function.clauses)) == 1
    return (function, isinstance(kind, Integer)) if is_list and isinstance(kind, Integer | String) else None


def speak(engine: Engine) -> None:
    """Have the statements of an engine written by these."""
    dialect = engine.dialect
    dialect.statement_compiler = Compiler
    dialect.type_compiler_instance = Types(dialect)
    dialect.use_insertmanyvalues_wo_returning = True  # many rows of one INSERT go in one statement


@lru_cache(maxsize=512)
def translate(statement: str) -> str:
    """Return a plain statement with the parameters that psycopg knows."""
    marks = {"?": "%s", "%": "%%"}
    return _QUOTED.sub(lambda found: marks.get(found[0], found[0].replace("%", "%%")), _listed(statement))


def _listed(statement: str) -> str:
    return statement.replace(_LISTED, _LISTED_HERE)
