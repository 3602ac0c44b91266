"""What stands behind the volumes of an instance: read from its specification and the objects that it names."""
