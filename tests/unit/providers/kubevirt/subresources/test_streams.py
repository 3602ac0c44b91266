"""Console, screen and ports over real web sockets: bytes, takeovers, closing, and what a slow end does to the other."""

from __future__ import annotations

import asyncio
import hashlib
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Address
from typing import Any

import aiohttp
import pytest

from pilvi.lib.deadline import wait_for
from pilvi.providers.kubevirt.kinds import INSTANCES, IPS
from pilvi.providers.kubevirt.subresources import splice, streams
from pilvi.providers.kubevirt.subresources.peers import dial_tcp, dial_udp
from pilvi.providers.names import vpc_netns
from tests.unit.providers.kubevirt.subresources.served import Served
from tests.virtctl import VirtctlError

TIMEOUT_S = 20.0
MANY = 100 << 20


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()


class Held:
    """A socket of the machine whose connections the test has in its hand."""

    def __init__(self) -> None:
        self.connections: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.connections.put((reader, writer))


async def closing(stream: aiohttp.ClientWebSocketResponse) -> tuple[Any, str]:
    """Code and reason with which the server ends the stream."""
    async with asyncio.timeout(TIMEOUT_S):
        message = await stream.receive()
        while message.type is aiohttp.WSMsgType.BINARY:
            message = await stream.receive()
    assert message.type is aiohttp.WSMsgType.CLOSE
    return message.data, str(message.extra or "")


async def test_a_conversation(served: Served) -> None:
    served.put_instance()
    async with served.listening("serial.sock", echo), served.virtctl() as virtctl, virtctl.console("web") as stream:
        await stream.send_str("text means nothing")
        await stream.send_bytes(b"login: \x00\xff\r\n")
        async with asyncio.timeout(TIMEOUT_S):
            message = await stream.receive()
    assert (message.type, message.data) == (aiohttp.WSMsgType.BINARY, b"login: \x00\xff\r\n")


async def test_what_the_machine_said_last_arrives_before_the_end(served: Served) -> None:
    served.put_instance()

    async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x" * 300_000)
        await writer.drain()
        writer.close()

    async with served.listening("serial.sock", talk), served.virtctl() as virtctl, virtctl.console("web") as stream:
        got = 0
        async with asyncio.timeout(TIMEOUT_S):
            while (message := await stream.receive()).type is aiohttp.WSMsgType.BINARY:
                assert len(message.data) <= 10_240
                got += len(message.data)
    assert got == 300_000
    assert (message.data, message.extra) == (1000, "the machine has closed the connection")


async def test_a_client_that_leaves_frees_the_machines_socket(served: Served) -> None:
    served.put_instance()
    held = Held()
    async with served.listening("serial.sock", held), served.virtctl() as virtctl:
        async with virtctl.console("web") as stream:
            reader, _ = await held.connections.get()
            await stream.send_bytes(b"bye")
        async with asyncio.timeout(TIMEOUT_S):
            assert await reader.read() == b"bye"


async def test_the_newest_console_has_it(served: Served) -> None:
    served.put_instance()
    held = Held()
    async with served.listening("serial.sock", held), served.virtctl() as virtctl, virtctl.console("web") as first:
        _, writer = await held.connections.get()
        async with virtctl.console("web") as second:
            code, reason = await closing(first)
            assert (code, reason) == (1008, "another connection has taken over")
            writer.close()
            _, writer = await held.connections.get()
            writer.write(b"for the second")
            async with asyncio.timeout(TIMEOUT_S):
                assert (await second.receive()).data == b"for the second"
            writer.close()


async def test_a_client_that_does_not_answer_holds_nobody_up(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asleep, and its goodbye would have to be waited for."""
    monkeypatch.setattr(splice, "GOODBYE_S", 0.5)
    served.put_instance()
    held = Held()
    async with served.listening("serial.sock", held), served.virtctl() as virtctl, virtctl.console("web"):
        _, writer = await held.connections.get()
        async with asyncio.timeout(0.4), virtctl.console("web"):
            writer.close()
            _, writer = await held.connections.get()
        writer.close()


async def test_many_at_the_same_time_leave_one(served: Served) -> None:
    served.put_instance()
    async with served.listening("serial.sock", echo), served.virtctl() as virtctl:
        streams_ = [virtctl.console("web") for _ in range(8)]
        opened = await asyncio.gather(*(stream.__aenter__() for stream in streams_))
        alive = 0
        for stream in opened:
            await stream.send_bytes(b"x")
            async with asyncio.timeout(TIMEOUT_S):
                alive += (await stream.receive()).type is aiohttp.WSMsgType.BINARY
        assert alive == 1
        for each in streams_:
            await each.__aexit__(None, None, None)


async def test_a_polite_viewer_does_not_disturb(served: Served) -> None:
    served.put_instance()
    async with served.listening("vnc.sock", echo), served.virtctl() as virtctl, virtctl.vnc("web", preserve_session=True) as first:
        with pytest.raises(VirtctlError, match="somebody uses its screen") as refused:
            async with virtctl.vnc("web", preserve_session=True):
                pass
        assert refused.value.code == 409
        async with virtctl.vnc("web") as second:
            assert (await closing(first))[0] == 1008
            await second.send_bytes(b"RFB 003.008\n")
            async with asyncio.timeout(TIMEOUT_S):
                assert (await second.receive()).data == b"RFB 003.008\n"


async def test_a_slow_reader_stops_the_machine(served: Served) -> None:
    served.put_instance()
    sent = 0

    async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        piece = bytes(range(256)) * 256
        for _ in range(MANY // len(piece)):
            writer.write(piece)
            await writer.drain()
            sent += len(piece)
        writer.close()

    async with served.listening("serial.sock", talk), served.virtctl() as virtctl, virtctl.console("web") as stream:
        await wait_for_rest(lambda: sent)
        stopped_at, before = sent, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert stopped_at < 16 << 20, "beyond what sockets hold, nothing is read that nobody takes"
        got, digest = 0, hashlib.sha256()
        async with asyncio.timeout(120):
            while (message := await stream.receive()).type is aiohttp.WSMsgType.BINARY:
                got += len(message.data)
                digest.update(message.data)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert got == MANY
    assert digest.digest() == hashlib.sha256(bytes(range(256)) * (MANY // 256)).digest()
    assert after - before < 16 << 10, "KiB: memory does not grow with what is carried"


async def test_a_machine_that_takes_nothing_stops_the_client(served: Served) -> None:
    served.put_instance()
    taking = asyncio.Event()
    got = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal got
        await taking.wait()
        while data := await reader.read(1 << 16):
            got += len(data)
        writer.close()

    sent = 0
    async with served.listening("serial.sock", talk), served.virtctl() as virtctl, virtctl.console("web") as stream:

        async def send() -> None:
            nonlocal sent
            piece = b"y" * (32 << 10)
            for _ in range(MANY // len(piece)):
                await stream.send_bytes(piece)
                sent += len(piece)

        sending = asyncio.create_task(send())
        await wait_for_rest(lambda: sent)
        assert sent < 16 << 20
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        taking.set()
        async with asyncio.timeout(120):
            await sending
            await wait_for(lambda: got == MANY, 60, "all of it to arrive", interval_s=0.01)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 << 10


async def wait_for_rest(value: Any) -> None:
    """Until the number is above 0 and has stood still for a while."""
    async with asyncio.timeout(TIMEOUT_S):
        before = 0
        while not before or value() != before:
            before = value()
            await asyncio.sleep(0.3)


async def test_pings_keep_a_silent_stream(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splice, "PING_S", 0.01)
    served.put_instance()
    async with served.listening("serial.sock", Held()), served.virtctl() as virtctl:
        path = virtctl._path("virtualmachineinstances", "web", "console")
        async with virtctl.session.ws_connect(virtctl.server + path, headers=virtctl.headers, autoping=False) as stream:
            async with asyncio.timeout(TIMEOUT_S):
                assert (await stream.receive()).type is aiohttp.WSMsgType.PING


async def test_a_message_without_measure_ends_the_stream(served: Served) -> None:
    served.put_instance()
    async with served.listening("serial.sock", echo), served.virtctl() as virtctl, virtctl.console("web") as stream:
        await stream.send_bytes(b"z" * (splice.LARGEST_MESSAGE + 1))
        assert (await closing(stream))[0] == 1009


async def test_an_engine_that_ends_says_so(served: Served) -> None:
    served.put_instance()
    async with served.listening("serial.sock", Held()), served.virtctl() as virtctl, virtctl.console("web") as stream:
        served.task.cancel()
        assert await closing(stream) == (1001, "the engine ends; connect again in a moment")


@pytest.mark.parametrize(
    ("phase", "devices", "code", "message"),
    [
        ("Scheduled", {}, 400, "not running"),
        ("Failed", {}, 409, "has failed"),
        ("Running", {"autoattachSerialConsole": False}, 400, "no serial console"),
        ("Running", {}, 500, "the console of machine shop/web does not answer"),
    ],
)
async def test_consoles_that_are_none(served: Served, phase: str, devices: dict[str, Any], code: int, message: str) -> None:
    served.put_instance(phase, spec={"domain": {"devices": devices}})
    await refused(served, "console", code, message)


@pytest.mark.parametrize(
    ("phase", "devices", "message"), [("Scheduled", {}, "not running"), ("Running", {"autoattachGraphicsDevice": False}, "no screen")]
)
async def test_screens_that_are_none(served: Served, phase: str, devices: dict[str, Any], message: str) -> None:
    served.put_instance(phase, spec={"domain": {"devices": devices}})
    await refused(served, "vnc", 400, message)


@pytest.mark.parametrize("call", ["console", "vnc"])
async def test_a_sandbox_has_neither(served: Served, call: str) -> None:
    served.put_instance(fidelity="Sandbox")
    # 409, not 400: virtctl would try again for five minutes.
    await refused(served, call, 409, "pilvi logs")


async def test_streams_that_are_not_there(served: Served) -> None:
    await refused(served, "console", 404, "not found")
    served.put_instance()
    await refused(served, "usbredir", 400, "not served by pilvi", "_stream")
    await refused(served, "vsock?port=22&tls=true", 400, "not served by pilvi", "_stream")


async def refused(served: Served, call: str, code: int, message: str, by: str = "") -> None:
    async with served.virtctl() as virtctl:
        stream = virtctl._stream("virtualmachineinstances", "web", call) if by else getattr(virtctl, call)("web")
        with pytest.raises(VirtctlError, match=message) as raised:
            async with stream:
                pass
    assert raised.value.code == code


async def test_a_stream_has_to_be_asked_for_as_one(served: Served) -> None:
    served.put_instance()
    async with served.listening("serial.sock", echo), served.virtctl() as virtctl:
        with pytest.raises(VirtctlError, match="as a web socket") as raised:
            await virtctl._send("GET", virtctl._path("virtualmachineinstances", "web", "console"))
    assert raised.value.code == 400


# Ports


@asynccontextmanager
async def tcp_guest(served: Served, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    """A machine with an echo on a TCP port; dialled on the loopback instead of in its Vpc. What is dialled is checked."""

    async def dial(netns: str | None, address: IPv4Address, port: int, what: str) -> Any:
        assert (netns, str(address)) == (vpc_netns(served.platform.cloud, "vpc-uid"), "10.9.0.5")
        return await dial_tcp(None, IPv4Address("127.0.0.1"), port, what)

    monkeypatch.setitem(streams._DIALS, "tcp", dial)
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


async def seen(served: Served) -> None:
    informer = served.platform.informers.get(INSTANCES)
    await wait_for(informer.list, TIMEOUT_S, "the cache to see the instance", interval_s=0.01)


@pytest.mark.parametrize(("kind", "protocol"), [("vmi", "tcp"), ("vm", "tcp"), ("vmi", "")])
async def test_a_port(served: Served, monkeypatch: pytest.MonkeyPatch, kind: str, protocol: str) -> None:
    served.put_machine()
    served.put_instance()
    await seen(served)
    async with (
        tcp_guest(served, monkeypatch) as port,
        served.virtctl() as virtctl,
        virtctl.port_forward("web", port, protocol, kind=kind) as one,
        virtctl.port_forward("web", port, kind=kind) as two,
    ):
        for stream, text in ((one, b"one"), (two, b"two")):
            await stream.send_bytes(text)
            async with asyncio.timeout(TIMEOUT_S):
                assert (await stream.receive()).data == text, "ports are for many at a time"


async def test_datagrams_stay_whole(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    served.put_instance()
    await seen(served)
    guest = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    guest.bind(("127.0.0.1", 0))
    guest.setblocking(False)
    loop = asyncio.get_running_loop()
    monkeypatch.setitem(streams._DIALS, "udp", lambda _ns, _address, port, what: dial_udp(None, IPv4Address("127.0.0.1"), port, what))
    with guest:
        async with served.virtctl() as virtctl, virtctl.port_forward("web", guest.getsockname()[1], "udp") as stream:
            for size in (1, 1400, 9000):
                await stream.send_bytes(b"d" * size)
                async with asyncio.timeout(TIMEOUT_S):
                    data, address = await loop.sock_recvfrom(guest, 1 << 16)
                    assert len(data) == size
                    guest.sendto(data[::-1], address)
                    assert len((await stream.receive()).data) == size


async def test_ports_that_do_not_answer(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    served.put_instance()
    await seen(served)
    async with tcp_guest(served, monkeypatch) as port:
        pass
    async with served.virtctl() as virtctl:
        with pytest.raises(
            VirtctlError, match=rf"tcp port {port} of machine shop/web .10.9.0.5. does not answer: Connection refused"
        ) as raised:
            async with virtctl.port_forward("web", port):
                pass
    assert raised.value.code == 500


@pytest.mark.parametrize(
    ("port", "protocol", "code", "message"),
    [(0, "tcp", 400, "no port"), (65536, "tcp", 400, "no port"), (22, "sctp", 400, "neither tcp nor udp")],
)
async def test_ports_that_are_none(served: Served, port: int, protocol: str, code: int, message: str) -> None:
    served.put_instance()
    async with served.virtctl() as virtctl:
        with pytest.raises(VirtctlError, match=message) as raised:
            async with virtctl.port_forward("web", port, protocol):
                pass
    assert raised.value.code == code


async def test_ports_of_machines_that_cannot_be_reached(served: Served) -> None:
    async with served.virtctl() as virtctl:

        async def ask(kind: str) -> VirtctlError:
            with pytest.raises(VirtctlError) as raised:
                async with virtctl.port_forward("web", 22, kind=kind):
                    pass
            return raised.value

        served.put_machine()
        assert "not started" in str(await ask("vm"))
        served.put_instance(Paused="True")
        assert "it is paused" in str(await ask("vmi"))
        served.put_instance()
        await seen(served)
        served.api.remove("/apis/kubeovn.io/v1/ips/web.shop")
        informer = served.platform.informers.get(IPS)
        await wait_for(lambda: not informer.list(), TIMEOUT_S, "the cache to forget the address", interval_s=0.01)
        refusal = await ask("vmi")
        assert (refusal.code, "no address yet" in str(refusal)) == (409, True)
