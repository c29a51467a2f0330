"""The environment becomes records; checks; what holds, and why."""
