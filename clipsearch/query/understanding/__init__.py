"""What is certainly a filter is lifted out of the words of a query: dates, places, people and tags, cameras."""
