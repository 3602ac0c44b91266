"""Vpc: a private network. One network namespace is its router; nothing leads from one to another."""
