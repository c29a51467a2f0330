"""HTTP as values, and one exchange of it."""
