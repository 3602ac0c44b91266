"""pilvi turns a bare Linux machine into a cloud whose only control surface is a Kubernetes API."""

__version__ = "0.1.0"
