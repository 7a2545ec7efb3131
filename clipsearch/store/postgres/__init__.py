"""A catalog in PostgreSQL: its address, its connections, and how it says what the store says to SQLite."""
