"""What a library wants of its index; kept in its settings."""

from __future__ import annotations

from dataclasses import dataclass

from clipsearch.ann import registry, server_trust
from clipsearch.errors import InvalidInputError
from clipsearch.store.catalog import get_setting
from clipsearch.store.library import Library
from clipsearch.store.writer import Writer

KIND_KEY, TARGET_KEY, BUDGET_KEY = "index_kind", "target_recall", "memory_budget"
URI_KEY = "index_uri"

LEAST_TARGET = 0.5


@dataclass(frozen=True, slots=True)
class IndexPlan:
    """A kind of index, how good it must be, and how large it may be.

    kind: one of clipsearch.ann.registry.KINDS. target_recall: the share of the true first ten that an approximate
    search is to find. memory_budget: bytes that the indexes of all modalities may take together, 0 for no limit.
    uri: address of the server, of the kind `milvus` alone.
    """

    kind: str = "auto"
    target_recall: float = 0.95
    memory_budget: int = 0
    uri: str = ""

    def check(self) -> None:
        """Raise InvalidInputError for a target or a budget that makes no sense."""
        if not LEAST_TARGET <= self.target_recall <= 1.0:
            raise InvalidInputError(f"The target recall is {self.target_recall}, but must be from {LEAST_TARGET} to 1.")
        if self.memory_budget < 0:
            raise InvalidInputError(f"The memory budget is {self.memory_budget} bytes; use 0 for no limit.")
        if bool(self.uri) != (self.kind == registry.REMOTE):
            raise InvalidInputError(
                f"The index {registry.REMOTE} needs the address of its server, and no other index has one. Example: "
                f"clipsearch build --index {registry.REMOTE} --uri http://127.0.0.1:{server_trust.DEFAULT_PORT}"
            )
        if self.uri and server_trust.read_uri(self.uri) != self.uri:
            raise InvalidInputError(f"Write the address of the server as {server_trust.read_uri(self.uri)}.")

    def save(self, writer: Writer) -> None:
        """Keep it as the library's choice."""
        writer.set_setting(KIND_KEY, self.kind)
        writer.set_setting(TARGET_KEY, str(self.target_recall))
        writer.set_setting(BUDGET_KEY, str(self.memory_budget))
        writer.set_setting(URI_KEY, self.uri)

    @classmethod
    def of(cls, library: Library) -> IndexPlan:
        """Return the library's choice, or the default."""
        with library.query() as connection:
            kind = get_setting(connection, KIND_KEY) or cls().kind
            target = float(get_setting(connection, TARGET_KEY) or cls().target_recall)
            budget = int(get_setting(connection, BUDGET_KEY) or 0)
            return cls(kind, target, budget, get_setting(connection, URI_KEY) or "")
