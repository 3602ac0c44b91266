"""The engine: one asyncio process that runs all controllers of one cloud and keeps its units alive."""
