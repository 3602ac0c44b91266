"""Access credentials: what is asked for, what Secrets hold, and what the agent is told."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest

from pilvi.api import JsonObject, Key
from pilvi.errors import UserError
from pilvi.lib.deadline import wait_for
from pilvi.providers.kubevirt.instance.credentials import keeper as keeping
from pilvi.providers.kubevirt.instance.credentials.credential import (
    Credentials,
    Wanted,
    find_credentials,
    read_public_keys,
    read_wanted,
    secret_names,
)
from pilvi.providers.kubevirt.instance.credentials.keeper import CredentialKeeper
from pilvi.providers.kubevirt.instance.scope import Scope
from pilvi.providers.kubevirt.instance.tasks import MachineTasks
from pilvi.providers.kubevirt.machines.control import MachineRefusal, SandboxControl
from tests.unit.providers.kubevirt.objects import make_vmi

SECRET = {"secret": {"secretName": "keys"}}
KEYS = Key("shop", "keys")
A, B = "ssh-ed25519 AAAA a", "ssh-rsa BBBB b"


def key_by(way: str, **how: Any) -> JsonObject:
    return {"sshPublicKey": {"propagationMethod": {way: how}, "source": SECRET}}


PASSWORD = {"userPassword": {"propagationMethod": {"qemuGuestAgent": {}}, "source": SECRET}}


def vmi_with(*credentials: JsonObject, volume: str = "cloudInitNoCloud") -> JsonObject:
    vmi = make_vmi("Running")
    vmi["spec"]["volumes"] = [{"name": "seed", volume: {"userData": "#cloud-config"}}]
    vmi["spec"]["accessCredentials"] = list(credentials)
    return vmi


def secret(**data: str) -> JsonObject:
    return {
        "metadata": {"namespace": "shop", "name": "keys"},
        "data": {name: base64.b64encode(text.encode()).decode() for name, text in data.items()},
    }


def test_the_ways() -> None:
    assert find_credentials(vmi_with()) == Credentials()
    by_agent = key_by("qemuGuestAgent", users=["root", "debian"])
    assert find_credentials(vmi_with(key_by("noCloud"), by_agent, PASSWORD)) == Credentials((KEYS,), ((KEYS, ("root", "debian")),), (KEYS,))
    assert find_credentials(vmi_with(key_by("configDrive"), volume="cloudInitConfigDrive")) == Credentials((KEYS,))
    assert secret_names({"accessCredentials": [by_agent, PASSWORD, {}]}) == {"keys"}


@pytest.mark.parametrize(
    ("credential", "says"),
    [
        ({}, r"accessCredentials\[0\] has nothing"),
        ({**key_by("noCloud"), **PASSWORD}, "sshPublicKey and userPassword"),
        ({"sshPublicKey": {"propagationMethod": {}, "source": SECRET}}, "propagationMethod has nothing"),
        (key_by("configDrive"), "needs a volume cloudInitConfigDrive"),
        (key_by("qemuGuestAgent", users=[]), "names no users"),
        ({"sshPublicKey": {"propagationMethod": {"noCloud": {}}, "source": {}}}, "names no Secret"),
    ],
)
def test_ways_that_lead_nowhere(credential: JsonObject, says: str) -> None:
    with pytest.raises(UserError, match=says):
        find_credentials(vmi_with(credential))


def test_what_secrets_hold() -> None:
    assert read_public_keys(secret(two=f"# mine\n{B}\n\n{A}\n", one=A)) == (A, B)
    credentials = Credentials((), ((KEYS, ("root", "debian")), (KEYS, ("root",))), (KEYS,))
    assert read_wanted(credentials, lambda _: secret(root=A)) == Wanted((("root", (A,)), ("debian", (A,))), (("root", A),))
    assert "AAAA" not in repr(Wanted(passwords=(("root", A),))), "passwords do not get into logs"
    with pytest.raises(UserError, match="does not exist"):
        read_wanted(credentials, lambda _: None)
    with pytest.raises(UserError, match="is no text"):
        read_public_keys({"metadata": {"namespace": "shop", "name": "keys"}, "data": {"a": base64.b64encode(b"\xff\xfe").decode()}})


class Guest(SandboxControl):
    """Users with keys and passwords, and who there is."""

    def __init__(self) -> None:
        self.keys: dict[str, list[str]] = {"root": ["ssh-rsa OLD"]}
        self.passwords: list[tuple[str, str]] = []
        self.users = {"root"}
        self.writes = 0

    async def agent(self, uid: str, command: str, arguments: JsonObject | None = None) -> Any:
        assert arguments is not None
        user = arguments["username"]
        if user not in self.users:
            raise MachineRefusal(f"no user {user}", hint="make one")
        match command:
            case "guest-ssh-get-authorized-keys":
                return {"keys": self.keys.get(user, [])}
            case "guest-ssh-add-authorized-keys":
                assert arguments["reset"]
                self.writes += 1
                self.keys[user] = arguments["keys"]
            case "guest-set-user-password":
                self.passwords.append((user, base64.b64decode(arguments["password"]).decode()))
        return {}


class Secrets:
    def __init__(self) -> None:
        self.secret: JsonObject | None = secret(root="first", debian=A)

    def get(self, _key: Key) -> JsonObject | None:
        return self.secret


class CachesOf:
    def __init__(self, secrets: Secrets) -> None:
        self.secrets = secrets


async def test_an_agent_puts_them_in_place_and_keeps_them_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "_AGAIN_S", 0.01)
    monkeypatch.setattr(keeping, "_RETRY_S", 0.01)
    guest, secrets, woken = Guest(), Secrets(), list[Key]()
    tasks = MachineTasks()
    keeper = CredentialKeeper(CachesOf(secrets), tasks, woken.append)  # type: ignore[arg-type]
    vmi = vmi_with(key_by("qemuGuestAgent", users=["root"]), PASSWORD)
    scope = Scope(vmi, None, ())

    def look(*, agent: bool = True) -> tuple[Any, Any]:
        found = keeper.look(scope, guest, agent=agent)
        return (found["status"], found["reason"]) if found is not None else (None, None)

    running = asyncio.create_task(tasks.run())
    try:
        assert look(agent=False) == ("False", "AgentNotConnected")
        assert look() == (None, None), "nothing is known yet"
        await wait_for(lambda: look() == ("False", "AgentFailed"), 30, "the user who is not there to be told")
        assert guest.keys["root"] == [A, "first"]
        guest.users.add("debian")
        await wait_for(lambda: look() == ("True", "Synchronized"), 30, "the user who has come")
        assert guest.passwords == [("root", "first"), ("debian", A)], "each once, however often the other one was tried"
        writes = guest.writes
        guest.keys["root"] = ["ssh-rsa FOREIGN"]
        await wait_for(lambda: guest.keys["root"] == [A, "first"], 30, "the keys to be put right")
        assert guest.writes == writes + 1
        secrets.secret = secret(root="second")
        assert look()[0] is None
        await wait_for(lambda: look() == ("True", "Synchronized"), 30, "the new Secret")
        assert guest.keys["root"] == ["second"]
        assert guest.passwords[-1] == ("root", "second")
        secrets.secret = None
        assert look() == ("False", "InvalidSecret")
        assert set(woken) == {scope.key}
    finally:
        running.cancel()


async def test_tasks_end_with_their_instance() -> None:
    tasks, begun, ended = MachineTasks(), list[str](), list[str]()

    async def work(name: str) -> None:
        begun.append(name)
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append(name)

    one, two = Key("a", "one"), Key("a", "two")
    tasks.keep(one, "probe", 1, lambda: work("one"))
    running = asyncio.create_task(tasks.run())
    tasks.keep(two, "probe", 1, lambda: work("two"))
    await wait_for(lambda: sorted(begun) == ["one", "two"], 30, "both to begin, also the one from before")
    tasks.keep(one, "probe", 1, lambda: work("again"))
    tasks.keep(two, "probe", 2, lambda: work("changed"))
    await wait_for(lambda: begun[-1] == "changed", 30, "the one that is to do something else")
    tasks.end(one)
    await wait_for(lambda: ended == ["two", "one"], 30, "both to end")
    running.cancel()
    await asyncio.wait([running])
    assert ended == ["two", "one", "changed"]
