"""SQL functions in the schema of a library, by which values of metadata compare as they do in SQLite.

A value becomes bytes that sort as the values do: numbers first, by size, then texts by their bytes, then truth values
and everything else. A number is its double, made to sort, and how much a whole number is above it: both exact.
"""

from __future__ import annotations

from sqlalchemy import Connection

VERSION = "2"
"""Rises when a function here changes, so that the next writer makes them again."""

NAMES = (
    "clipsearch_count_words",
    "clipsearch_elements",
    "clipsearch_key",
    "clipsearch_kind",
    "clipsearch_number",
    "clipsearch_unseal",
)
"""Every function that a schema of ours has, those that triggers call too."""

_IS_CURRENT = "SELECT obj_description(to_regprocedure('clipsearch_key(json)'), 'pg_proc') = ?"
_CREATE = (
    """
    CREATE OR REPLACE FUNCTION clipsearch_number(value text) RETURNS bytea
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
    DECLARE
        rounded float8 := value::float8 + 0.0;
        bits bigint := ('x' || encode(float8send(rounded), 'hex'))::bit(64)::bigint;
        above int := 0;
    BEGIN
        IF value ~ '^-?[0-9]+$' THEN
            above := value::numeric
                - CASE WHEN rounded >= 9223372036854775807 THEN 9223372036854775808
                       ELSE rounded::bigint::numeric END;
        END IF;
        bits := CASE WHEN bits >= 0 THEN bits # (-9223372036854775808) ELSE ~bits END;
        RETURN '\\x01'::bytea || int8send(bits) || int2send((above # -32768)::int2);
    END $$
    """,
    # Most numbers are exact doubles of no sign, whose first bit is all that has to change.
    """
    CREATE OR REPLACE FUNCTION clipsearch_key(value json) RETURNS bytea
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
    DECLARE
        kind text := json_typeof(value);
        bits bytea;
    BEGIN
        IF kind = 'number' THEN
            IF value::text ~ '^([0-9]{1,15}|[0-9]{1,15}[.][0-9]+)$' THEN
                bits := float8send(value::text::float8);
                RETURN '\\x01'::bytea || set_byte(bits, 0, get_byte(bits, 0) # 128) || '\\x8000'::bytea;
            END IF;
            RETURN clipsearch_number(value::text);
        ELSIF kind = 'string' THEN
            RETURN '\\x02'::bytea || convert_to(value #>> '{}', 'UTF8');
        ELSIF kind = 'boolean' THEN
            RETURN CASE value::text WHEN 'true' THEN '\\x0301'::bytea ELSE '\\x0300'::bytea END;
        ELSIF kind = 'null' THEN
            RETURN NULL;
        END IF;
        RETURN '\\x03'::bytea || convert_to(value::text, 'UTF8');
    END $$
    """,
    """
    CREATE OR REPLACE FUNCTION clipsearch_kind(value json) RETURNS text
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
    DECLARE
        kind text := json_typeof(value);
    BEGIN
        RETURN CASE kind
            WHEN 'number' THEN CASE WHEN value::text ~ '^-?[0-9]+$' THEN 'integer' ELSE 'real' END
            WHEN 'string' THEN 'text'
            WHEN 'boolean' THEN value::text
            ELSE kind END;
    END $$
    """,
    """
    CREATE OR REPLACE FUNCTION clipsearch_elements(value json) RETURNS TABLE(value bytea, type text)
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
        SELECT clipsearch_key(each.value), clipsearch_kind(each.value)
        FROM json_array_elements(CASE WHEN json_typeof($1) = 'array' THEN $1 ELSE '[]' END) AS each
    $$
    """,
    """
    CREATE OR REPLACE FUNCTION clipsearch_unseal() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        NEW.digest := NULL;
        RETURN NEW;
    END $$
    """,
    f"COMMENT ON FUNCTION clipsearch_key(json) IS '{VERSION}'",
)


def create(connection: Connection) -> None:
    """Create the functions, unless they are there as they are to be."""
    if connection.exec_driver_sql(_IS_CURRENT, (VERSION,)).scalar_one() is not True:
        for statement in _CREATE:
            connection.exec_driver_sql(statement)
