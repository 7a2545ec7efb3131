"""Metadata filters of LlamaIndex as filters of a library."""

from __future__ import annotations

from typing import Any

from llama_index.core.vector_stores.types import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters

from clipsearch import Filter, InvalidInputError

MAX_DEPTH = 15
"""How deep filters may be nested."""

_DIRECT = {
    FilterOperator.EQ: "eq",
    FilterOperator.GT: "gt",
    FilterOperator.LT: "lt",
    FilterOperator.GTE: "ge",
    FilterOperator.LTE: "le",
    FilterOperator.IN: "in",
    FilterOperator.ANY: "in",
    FilterOperator.CONTAINS: "eq",
    FilterOperator.TEXT_MATCH: "contains",
}
_LISTS = (FilterOperator.IN, FilterOperator.NIN, FilterOperator.ANY, FilterOperator.ALL)


def to_filter(filters: MetadataFilters | None, depth: int = 0) -> Filter:
    """Return the filter that metadata filters mean.

    A list of strings equals, and contains, each of its elements. What a node lacks meets `!=`, `nin` and `is_empty`.

    Args:
        filters: None or none at all allow every node.
        depth: How deep they are nested in others.

    Raises:
        InvalidInputError: A library cannot compare so, or they are nested more than `MAX_DEPTH` levels deep.
    """
    if filters is None or not filters.filters:
        return Filter()
    if depth > MAX_DEPTH:
        raise InvalidInputError(f"The filters are nested more than {MAX_DEPTH} levels deep. Combine fewer.")
    parts = tuple(
        to_filter(each, depth + 1) if isinstance(each, MetadataFilters) else _compare(each) for each in filters.filters
    )
    match filters.condition or FilterCondition.AND:
        case FilterCondition.AND:
            return Filter(all_of=parts)
        case FilterCondition.OR:
            return Filter(any_of=parts)
        case FilterCondition.NOT:
            return Filter(none_of=parts)


def _compare(wanted: MetadataFilter) -> Filter:
    key, operator, value = wanted.key, wanted.operator, wanted.value
    if operator is FilterOperator.IS_EMPTY:
        return ~_has_content(key)
    if operator is FilterOperator.TEXT_MATCH_INSENSITIVE:
        raise InvalidInputError(f"{key!r} cannot be matched in either case. Use text_match, which minds the case.")
    if isinstance(value, list) != (operator in _LISTS):
        kind = "a list" if operator in _LISTS else "one value"
        raise InvalidInputError(f"{operator.value} of {key!r} takes {kind}, not {value!r:.200}.")
    if operator is FilterOperator.NE:
        return ~_where(key, "eq", value)
    if operator is FilterOperator.NIN:
        return ~_where(key, "in", value)
    if operator is FilterOperator.ALL and isinstance(value, list):
        return Filter(all_of=tuple(_where(key, "eq", each) for each in value))
    return _where(key, _DIRECT[operator], value)


def _has_content(key: str) -> Filter:
    """Return the filter "a number, a truth value, a text or a list that is not empty"."""
    texts = _where(key, "contains", "") & ~_where(key, "eq", "")
    return Filter(any_of=(_where(key, "in", [True, False]), _where(key, "lt", 0), _where(key, "ge", 0), texts))


def _where(key: str, operator: str, value: Any) -> Filter:
    return Filter(where={key: {operator: value}})
