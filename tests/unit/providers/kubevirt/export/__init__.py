"""Exports of disks."""
