"""What is stored, and for whom."""
