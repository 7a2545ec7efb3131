"""The daemon: its command, its server, and how a query asks it."""
