"""The host as a Node of the platform's API."""
