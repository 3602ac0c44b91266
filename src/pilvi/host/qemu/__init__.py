"""Virtual machines under QEMU: what they are, how QEMU is told, and how it is talked to while it runs."""
