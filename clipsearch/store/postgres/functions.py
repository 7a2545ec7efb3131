"""SQL functions in the schema of a library, by which values of metadata compare as they do in SQLite.

A value becomes bytes that sort as the values do: numbers first, by size, then texts by their bytes, then truth values
and everything else. A number is its double, made to sort, and how much a whole number is above it: both exact.
"""

from __future__ import annotations

from sqlalchemy import Connection

_CREATE = (
    """
    CREATE OR REPLACE FUNCTION clipsearch_number(value text) RETURNS bytea LANGUAGE plpgsql IMMUTABLE STRICT AS $$
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
    """
    CREATE OR REPLACE FUNCTION clipsearch_key(value json) RETURNS bytea LANGUAGE sql IMMUTABLE STRICT AS $$
        SELECT CASE json_typeof(value)
            WHEN 'number' THEN clipsearch_number(value::text)
            WHEN 'string' THEN '\\x02'::bytea || convert_to(value #>> '{}', 'UTF8')
            WHEN 'boolean' THEN CASE value::text WHEN 'true' THEN '\\x0301'::bytea ELSE '\\x0300'::bytea END
            WHEN 'null' THEN NULL
            ELSE '\\x03'::bytea || convert_to(value::text, 'UTF8') END
    $$
    """,
    """
    CREATE OR REPLACE FUNCTION clipsearch_kind(value json) RETURNS text LANGUAGE sql IMMUTABLE STRICT AS $$
        SELECT CASE json_typeof(value)
            WHEN 'number' THEN CASE WHEN value::text ~ '^-?[0-9]+$' THEN 'integer' ELSE 'real' END
            WHEN 'string' THEN 'text'
            WHEN 'boolean' THEN value::text
            ELSE json_typeof(value) END
    $$
    """,
    """
    CREATE OR REPLACE FUNCTION clipsearch_elements(value json) RETURNS TABLE(value bytea, type text)
    LANGUAGE sql IMMUTABLE AS $$
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
)


def create(connection: Connection) -> None:
    """Create the functions."""
    for statement in _CREATE:
        connection.exec_driver_sql(statement)
