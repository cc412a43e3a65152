"""`portway demo`: the lines that it prints are run as they are printed."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import socket
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from wire.command import ANY_PORTS, Command, portway

needs_tools = pytest.mark.skipif(
    not (shutil.which("curl") and shutil.which("nc")), reason="the demo's lines need curl and nc (netcat-openbsd)"
)


async def paste(line: str, folder: Path) -> bytes:
    """Return what a line of the demo prints in a shell."""
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", line, cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    async with asyncio.timeout(20):
        out, _ = await process.communicate()
    assert process.returncode == 0, line
    return out


async def lines(command: Command) -> list[str]:
    """Return the lines to try, once they are there."""
    await command.until("Ctrl-C ends it")
    return [line.strip() for line in command.out if line.startswith("  ")]


@needs_tools
async def test_every_line_works_as_it_is_printed(tmp_path: Path) -> None:
    async with portway("demo", *ANY_PORTS) as command:
        root, message, image, named, secure, echo, routes = await lines(command)
        turns = [await paste(root, tmp_path) for _ in range(4)]
        assert turns[0] != turns[1]
        assert turns[:2] == turns[2:]
        ports = {int(found[1]) for turn in turns if (found := re.fullmatch(rb"sent by (\d+)\n", turn))}
        assert len(ports) == 2
        said = json.loads(await paste(message, tmp_path))
        assert said["path"] == "/message"
        await paste(image, tmp_path)
        assert (tmp_path / "portway.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
        assert (await paste(named, tmp_path)).startswith(b"sent by ")
        assert secure.startswith("curl -k https://")
        assert (await paste(secure, tmp_path)).startswith(b"sent by ")
        assert await paste(echo, tmp_path) == b"hello\n"
        # It tells this machine where a request goes.
        asked = await paste(f"{root} -si -H 'X-Portway-Explain: 1'", tmp_path)
        assert b"X-Portway-Upstream: default/hello:80\r\n" in asked
        assert (await paste(routes, tmp_path)).count(b" => default/hello:80 -> 127.0.0.1:") == 2
        assert command.errors("problem") == [line for line in command.err if ", 0 problems" in line]


async def test_ctrl_c_ends_it_with_status_0_and_leaves_no_process() -> None:
    async with portway("demo", *ANY_PORTS, "--workers", "2") as command:
        await lines(command)
        assert len(command.children()) == 2
        assert await command.stop() == 0


async def test_ctrl_c_ends_it_while_a_client_keeps_its_connections(tmp_path: Path) -> None:
    async with portway("demo", *ANY_PORTS) as command:
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", (await lines(command))[0])
        echo = re.search(r"127\.0\.0\.1 (\d+)$", (await lines(command))[5])
        assert found is not None
        assert echo is not None
        streams = [await asyncio.open_connection("127.0.0.1", int(port[1])) for port in (found, echo)]
        streams[0][1].write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await streams[0][0].readuntil(b"sent by")
        streams[1][1].write(b"hello")
        assert await streams[1][0].readexactly(5) == b"hello"
        command.process.send_signal(2)
        for _, writer in streams:
            writer.close()
        assert await command.ended() == 0


async def test_ports_that_are_taken_are_replaced_and_it_says_so() -> None:
    with ExitStack() as stack:
        for port in (5000, 9000):
            sock = stack.enter_context(closing(socket.socket()))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind(("127.0.0.1", port))
                sock.listen()
            except OSError:
                pass  # Somebody else has it, which is as good.
        async with portway("demo", *ANY_PORTS) as command:
            tries = await lines(command)
            apps = await command.until("^Port 5000 is taken; the demo's applications use")
            listener = await command.until("^Port 9000 is taken; Portway uses")
            new_app, new_listener = (re.findall(r"\d+", line)[-1] for line in (apps, listener))
            assert f"nc -w 1 127.0.0.1 {new_listener}" in tries[5]
            assert any(f"hello {new_app}" in line for line in command.out)
            found = re.search(r"http://127\.0\.0\.1:(\d+)/", tries[0])
            assert found is not None
            bodies = set()
            for _ in range(2):
                reader, writer = await asyncio.open_connection("127.0.0.1", int(found[1]))
                writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                bodies.add(re.findall(rb"\d+", await reader.readuntil(b"sent by ") + await reader.readline())[-1])
                writer.close()
            assert new_app.encode() in bodies
