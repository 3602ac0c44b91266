"""Claims: their volumes are made, filled with what they name, and grown."""
