"""The engine's listeners, all inside the platform's network namespace."""
