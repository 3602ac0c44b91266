"""The Kubernetes node: its image, its files, its first boot, and one machine put together from them."""

from pilvi.node.disk import SEED, Seed, node_command_line, node_seed
from pilvi.node.files import NodeFacts
from pilvi.node.machine import NodeMachine, SandboxFacts, find_first_boot_exit, node_machine, prepare_node_machine
from pilvi.node.reference import NodeImage, find_node_image, list_node_images, node_image_reference, parse_node_image

__all__ = [
    "SEED",
    "NodeFacts",
    "NodeImage",
    "NodeMachine",
    "SandboxFacts",
    "Seed",
    "find_first_boot_exit",
    "find_node_image",
    "list_node_images",
    "node_command_line",
    "node_image_reference",
    "node_machine",
    "node_seed",
    "parse_node_image",
    "prepare_node_machine",
]
