"""Keys and passwords that are put into a guest."""

# A struct is described at the field that holds it.
# ruff: noqa: D101

from typing import Annotated

from pilvi.api.core import Empty
from pilvi.api.field import Part, implemented

__all__ = ["AccessCredential"]


class GuestAgentUsers(Part):
    users: Annotated[list[str], implemented("Users of the guest who get the keys.", list_type="set")]


class KeyPropagation(Part):
    config_drive: Annotated[Empty | None, implemented("With the seed of cloudInitConfigDrive, at the guest's first boot.")] = None
    no_cloud: Annotated[Empty | None, implemented("With the seed of cloudInitNoCloud, at the guest's first boot.")] = None
    qemu_guest_agent: Annotated[
        GuestAgentUsers | None, implemented("By the guest's agent, kept in step with the Secret while the machine runs.")
    ] = None


class CredentialSecret(Part):
    secret_name: Annotated[str, implemented("Name of the Secret.")]


class CredentialSource(Part):
    secret: Annotated[CredentialSecret | None, implemented("Secret, of which every key counts.")] = None


class SshPublicKey(Part):
    propagation_method: Annotated[KeyPropagation, implemented("How they get into the guest: one of the ways.")]
    source: Annotated[CredentialSource, implemented("Where the keys are.")]


class PasswordPropagation(Part):
    qemu_guest_agent: Annotated[Empty | None, implemented("By the guest's agent.")] = None


class UserPassword(Part):
    propagation_method: Annotated[PasswordPropagation, implemented("How they get into the guest.")]
    source: Annotated[CredentialSource, implemented("Where the passwords are, by the names of users.")]


class AccessCredential(Part):
    ssh_public_key: Annotated[SshPublicKey | None, implemented("Public keys of SSH.")] = None
    user_password: Annotated[UserPassword | None, implemented("Passwords of users.")] = None
