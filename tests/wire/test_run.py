"""`portway run` with real files, processes and sockets."""

from __future__ import annotations

import asyncio
import json
import signal
import ssl
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from eventually import eventually
from wire.command import ANY_PORTS, Command, portway
from wire.parts import Client, connect, echoes, fetch, free_port, opened, serve_echo, serve_web


def ingress(name: str, path: str = "/", *, service: str = "web", host: str = "", extra: str = "") -> str:
    return f"""\
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: {name}}}
spec:
{extra}  rules:
  - {f"host: {host}" if host else "host:"}
    http:
      paths:
      - path: {path}
        pathType: Prefix
        backend: {{service: {{name: {service}, port: {{number: 80}}}}}}
"""


def service(name: str, *ports: int, annotations: str = "") -> str:
    """Return a Service that lives at `ports` of this machine."""
    where = ", ".join(f"127.0.0.1:{port}" for port in ports)
    return f"""\
apiVersion: v1
kind: Service
metadata:
  name: {name}
  annotations:
    portway.dev/endpoints: "{where}"
{annotations}spec:
  ports:
  - port: 80
"""


@asynccontextmanager
async def running(*arguments: str | Path) -> AsyncIterator[Command]:
    async with portway("run", *ANY_PORTS, "--no-access-log", "--workers", "2", *arguments) as command:
        yield await command.serving()


async def test_files_are_served_and_it_says_where_and_how_much(tmp_path: Path) -> None:
    async with serve_web("a") as web:
        (tmp_path / "a.yaml").write_text(service("web", web.port) + "---\n" + ingress("web"))
        async with running("-f", tmp_path) as command:
            assert await fetch(await command.port("http")) == "sent by a"
            assert command.err[0].startswith("listening on http://127.0.0.1:")
            assert command.err[1] == "generation 1: 1 route, 0 listeners, 0 problems (1 route new)"
            assert await command.stop() == 0


async def test_several_paths_are_read_and_every_change_is_one_line(tmp_path: Path) -> None:
    async with serve_web("a") as a, serve_web("b") as b:
        services, ingresses = tmp_path / "services.yaml", tmp_path / "ingresses"
        ingresses.mkdir()
        services.write_text(service("web", a.port))
        (ingresses / "web.yaml").write_text(ingress("web"))
        async with running("-f", services, "-f", ingresses) as command:
            port = await command.port("http")
            assert await fetch(port) == "sent by a"
            services.write_text(service("web", b.port))
            assert await command.until("^generation 2") == (
                "generation 2: 1 route, 0 listeners, 0 problems (1 route changed)"
            )
            assert await fetch(port) == "sent by b"
            (ingresses / "more.yaml").write_text(ingress("more", "/more", service="gone"))
            assert await command.until("^generation 3") == (
                "generation 3: 2 routes, 0 listeners, 1 problem (1 route new, 1 problem new)"
            )
            (problem,) = command.errors("^problem ")
            assert problem.startswith(
                f"problem {ingresses}/more.yaml:9: Ingress default/more spec.rules[0].http.paths[0]"
            )
            (ingresses / "more.yaml").unlink()
            assert await command.until("^generation 4") == (
                "generation 4: 1 route, 0 listeners, 0 problems (1 route gone, 1 problem gone)"
            )
            assert await command.stop() == 0
            assert len(command.errors("^generation|^problem")) == 5
            assert not command.errors("^info (?!portway_)")


async def test_a_file_that_no_longer_parses_keeps_what_it_said_and_names_file_and_line(tmp_path: Path) -> None:
    async with serve_web("a") as a, serve_web("b") as b:
        path = tmp_path / "a.yaml"
        path.write_text(service("web", a.port) + "---\n" + ingress("web"))
        async with running("-f", path) as command:
            port = await command.port("http")
            path.write_text(service("web", b.port) + "---\n" + ingress("web") + "  : [\n")
            line = await command.until("^problem ")
            assert line.startswith(f"problem File {path}:22: The text cannot be read: ")
            assert "The version read before stays." in line
            assert await fetch(port) == "sent by a"
            path.write_text(service("web", b.port) + "---\n" + ingress("web"))
            await command.until("1 problem gone")
            assert await fetch(port) == "sent by b"


async def test_a_malformed_object_names_file_line_document_and_field_and_the_rest_serves(tmp_path: Path) -> None:
    async with serve_web("a") as web:
        (tmp_path / "a.yaml").write_text(f"{service('web', web.port)}---\n{ingress('web')}---\n{ingress('Not_A_Name')}")
        (tmp_path / "b.yaml").write_text("a: [\n")
        async with portway("run", *ANY_PORTS, "--workers", "1", "-f", tmp_path) as command:
            await command.until("^problem ", 2)
            assert await fetch(await command.port("http")) == "sent by a"
            bad, broken = sorted(command.errors("^problem "))
            where = f"{tmp_path}/a.yaml:25 document 3 Ingress default/Not_A_Name metadata.name"
            assert bad.startswith(f"problem File {where}: 'Not_A_Name' ")
            assert broken.startswith(f"problem File {tmp_path}/b.yaml:2: The text cannot be read: ")


async def test_an_opaque_port_appears_and_goes_with_its_service(tmp_path: Path) -> None:
    async with serve_echo() as echo:
        port = free_port()
        path = tmp_path / "echo.yaml"
        (tmp_path / "other.yaml").write_text(service("other", 1))
        async with running("-f", tmp_path) as command:
            path.write_text(service("echo", echo, annotations=f'    portway.dev/tcp-ports: "{port}:80"\n'))
            await command.until("1 listener new")
            assert await echoes(port, b"\x00\xff opaque" * 1000)
            path.unlink()
            await command.until("1 listener gone")
            with pytest.raises(ConnectionRefusedError):
                await echoes(port)


async def test_a_port_of_its_own_is_no_listener_for_a_service(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "echo.yaml").write_text(service("echo", 1, annotations=f'    portway.dev/tcp-ports: "{port}:80"\n'))
    async with running("-f", tmp_path, "--http-port", str(port)) as command:
        assert command.err[1].startswith("generation 1: 0 routes, 0 listeners, 1 problem")


async def test_redirects_name_the_real_https_port_unless_told_otherwise(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        service("web", 1) + "---\n" + ingress("web", host="shop.example", extra="  tls: [{hosts: [shop.example]}]\n")
    )

    async def location(command: Command) -> str:
        async with connect(await command.port("http")) as client:
            client.send()
            status, head, _ = await client.take()
            assert status == 308
            return next(line for line in head.split("\r\n") if line.lower().startswith("location:"))

    async with running("-f", tmp_path) as command:
        assert await location(command) == f"Location: https://shop.example:{await command.port('https')}/"
    async with running("-f", tmp_path, "--public-https-port", "443") as command:
        assert await location(command) == "Location: https://shop.example/"


async def test_https_is_served_with_a_certificate_of_its_own(tmp_path: Path) -> None:
    async with serve_web("a") as web:
        (tmp_path / "a.yaml").write_text(service("web", web.port) + "---\n" + ingress("web"))
        async with running("-f", tmp_path) as command:
            anyone = ssl.create_default_context()
            anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
            client = Client(*await asyncio.open_connection("127.0.0.1", await command.port("https"), ssl=anyone))
            assert await client.get() == "sent by a"
            await client.close()


async def test_a_body_beyond_the_limit_is_refused(tmp_path: Path) -> None:
    async with serve_web("a") as web:
        (tmp_path / "a.yaml").write_text(service("web", web.port) + "---\n" + ingress("web"))
        async with (
            running("-f", tmp_path, "--body-size", "1k") as command,
            connect(await command.port("http")) as client,
        ):
            client.writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1025\r\n\r\n")
            assert (await client.take())[0] == 413


async def test_clients_of_named_networks_are_told_why_and_nobody_is_without(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(ingress("web"))
    for flags, told in (((), False), (("--explain-to", "127.0.0.1"), True)):
        async with running("-f", tmp_path, *flags) as command, connect(await command.port("http")) as client:
            client.send(host="x")
            status, head, _ = await client.take()
            assert (status, "X-Portway-Reason: service_missing\r\n" in head) == (503, told)


async def test_lines_may_be_json(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(ingress("web"))
    async with portway("run", *ANY_PORTS, "--log-format", "json", "-f", tmp_path) as command:
        await command.until('"problem"')
        listening, applied, problem = (json.loads(line) for line in command.err[:3])
        assert listening["event"] == "listening"
        assert listening["http"].startswith("http://127.0.0.1:")
        assert (applied["event"], applied["generation"], applied["routes"], applied["problems"]) == ("applied", 1, 1, 1)
        assert (problem["code"], problem["place"]) == ("service_missing", f"{tmp_path}/a.yaml:9")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_it_with_status_0_and_leaves_no_process(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "a.yaml").write_text(ingress("web"))
    async with running("-f", tmp_path) as command:
        assert len(command.children()) == 2
        assert await command.stop(number) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_at_the_moment_that_the_first_port_opens_ends_it_with_status_0(
    tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "a.yaml").write_text(ingress("web"))
    admin = free_port()
    async with portway("run", *ANY_PORTS, "--admin-port", str(admin), "-f", tmp_path) as command:
        await opened(admin)
        command.process.send_signal(number)
        assert await command.ended() == 0
        assert not command.errors("Traceback")


async def test_a_request_in_flight_is_answered_after_ctrl_c(tmp_path: Path) -> None:
    async with serve_web("a") as web:
        (tmp_path / "a.yaml").write_text(service("web", web.port) + "---\n" + ingress("web"))
        async with running("-f", tmp_path) as command, connect(await command.port("http")) as client:
            client.send("/slow")
            await eventually(lambda: web.slow == 1)
            stopped = asyncio.get_running_loop().create_task(command.stop())
            await command.until("draining")
            web.release.set()
            assert (await client.take())[2] == "sent by a"
            assert await stopped == 0


async def test_a_path_that_cannot_be_read_is_one_line_and_status_2(tmp_path: Path) -> None:
    async with portway("run", *ANY_PORTS, "-f", tmp_path / "nowhere") as command:
        assert await command.ended() == 2
        assert command.err == [f"portway: {tmp_path}/nowhere does not exist."]


async def test_a_port_that_is_taken_is_one_line_and_status_1(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(ingress("web"))
    async with serve_echo() as taken, portway("run", *ANY_PORTS, "--http-port", str(taken), "-f", tmp_path) as command:
        assert await command.ended() == 1
        (line,) = command.err
        assert line.startswith(f"portway: Port {taken} of 127.0.0.1 cannot be opened: another program")


# --- changes under load


class Load:
    """Clients that ask without pause, and everything that was not as it should be."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.failures: list[str] = []
        self.answers = 0
        self._enough = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, keep_alive: int, fresh: int) -> None:
        loop = asyncio.get_running_loop()
        self._tasks += [loop.create_task(self._guard(self._keep_asking())) for _ in range(keep_alive)]
        self._tasks += [loop.create_task(self._guard(self._keep_connecting())) for _ in range(fresh)]

    async def stop(self) -> None:
        self._enough.set()
        async with asyncio.timeout(30):
            await asyncio.gather(*self._tasks)

    async def _guard(self, work: Awaitable[None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a failure of the proxy
            self.failures.append(f"{type(error).__name__}: {error}")

    async def _keep_asking(self) -> None:
        # One connection for the whole time: a change must not cost it.
        async with connect(self.port) as client:
            while not self._enough.is_set():
                await self._ask(client)

    async def _keep_connecting(self) -> None:
        while not self._enough.is_set():
            async with connect(self.port) as client:
                await self._ask(client)

    async def _ask(self, client: Client) -> None:
        client.send()
        status, head, body = await client.take()
        self.answers += 1
        if status != 200 or body not in {"sent by a", "sent by b"}:
            self.failures.append(f"{head.splitlines()[0]} {body}")
        # A breath, so that the two cores of a small machine are there for the proxy too.
        await asyncio.sleep(0.005)


def write(path: Path, number: int, text: str) -> None:
    """Put a version in place in one of the ways of people and their tools."""
    if number % 4 == 1:
        new = path.with_name(f".{path.name}.tmp")
        new.write_text(text)
        new.replace(path)
        return
    if number % 4 == 2:
        path.replace(path.with_name(f"{path.name}~"))
    elif number % 4 == 3:
        path.unlink()
    path.write_text(text)


async def test_two_hundred_changes_under_load_fail_no_request_and_drop_no_connection(tmp_path: Path) -> None:
    async with serve_web("a") as a, serve_web("b") as b:
        path = tmp_path / "web.yaml"
        path.write_text(service("web", a.port) + "---\n" + ingress("web"))
        async with running("-f", tmp_path) as command:
            load = Load(await command.port("http"))
            load.start(keep_alive=4, fresh=2)
            for number in range(210):
                endpoints = ([a.port], [b.port], [a.port, b.port])[number % 3]
                text = service("web", *endpoints) + "---\n" + ingress("web")
                more = "---\n" + ingress(f"n{number}", f"/n{number}", host="other.example")
                before = command.generation()
                write(path, number, text + more)
                await eventually(lambda before=before: command.generation() > before, 20)  # type: ignore[misc]
            await load.stop()
            assert load.failures == []
            assert load.answers > 500
            assert command.generation() >= 210
            assert command.errors("problem ") == []
            assert await command.stop() == 0


async def test_the_ports_of_an_ingress_nginx_config_map_are_open(tmp_path: Path) -> None:
    port = free_port()
    async with serve_echo() as echo:
        mapped = f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: tcp}}\ndata: {{'{port}': default/echo:80}}\n"
        (tmp_path / "echo.yaml").write_text(service("echo", echo) + "---\n" + mapped)
        async with running("-f", tmp_path, "--tcp-services-configmap", "default/tcp"):
            assert await echoes(port)
