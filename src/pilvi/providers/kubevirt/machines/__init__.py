"""What runs machines: the interface (`backend`), its implementations, and the choice between them."""
