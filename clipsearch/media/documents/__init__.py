"""Documents as pages: their texts, and what they look like; one file for each format."""
