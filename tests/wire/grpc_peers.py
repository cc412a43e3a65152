"""Real gRPC: a server of grpcio with handlers of every kind, and messages that are plain bytes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeAlias

import grpc
from grpc import aio

__all__ = ["Greeter", "add", "asking", "channel", "serving", "talk", "watch"]

_METHODS = "/example.Greeter/"
_LARGEST = 64 << 20
_OPTIONS = (("grpc.max_receive_message_length", _LARGEST), ("grpc.max_send_message_length", _LARGEST))
Context: TypeAlias = "aio.ServicerContext[bytes, bytes]"
Handler: TypeAlias = "grpc.RpcMethodHandler[bytes, bytes]"


class Greeter(grpc.GenericRpcHandler):
    """A service without a description: `Say` and others of each kind; `calls` counts them.

    `go` lets the streams of `Watch` and `Talk` end.
    """

    def __init__(self, name: str) -> None:
        self.name = name.encode()
        self.calls = 0
        self.begun = 0
        self.port = 0
        self.go = asyncio.Event()
        self.left: list[str] = []
        self._methods: dict[str, Handler] = {
            "Say": grpc.unary_unary_rpc_method_handler(self.say),
            "Fail": grpc.unary_unary_rpc_method_handler(self.fail),
            "Sleep": grpc.unary_unary_rpc_method_handler(self.sleep),
            "Count": grpc.unary_stream_rpc_method_handler(self.count),
            "Watch": grpc.unary_stream_rpc_method_handler(self.watch),
            "Add": grpc.stream_unary_rpc_method_handler(self.add),
            "Talk": grpc.stream_stream_rpc_method_handler(self.talk),
        }

    def called(self, times: int) -> bool:
        return self.calls >= times

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        return self._methods.get(handler_call_details.method.removeprefix(_METHODS))

    async def say(self, request: bytes, context: Context) -> bytes:
        """Answer with our name and the request, and metadata on both ends."""
        self.calls += 1
        given = dict(context.invocation_metadata() or ())
        await context.send_initial_metadata((("x-first", str(given.get("x-ask", ""))), ("x-bytes-bin", b"\x00\xff")))
        context.set_trailing_metadata((("x-last", "behind"), ("x-last-bin", b"\x01\x02")))
        return self.name + b" " + request

    async def fail(self, request: bytes, context: Context) -> bytes:
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not today: %", (("x-why", "said"),))
        return request

    async def sleep(self, request: bytes, context: Context) -> bytes:
        self.begun += 1
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.left.append("sleep")
            raise
        del context
        return request

    async def count(self, request: bytes, context: Context) -> AsyncIterator[bytes]:
        self.calls += 1
        for number in range(int(request)):
            yield b"%d" % number
        context.set_trailing_metadata((("x-last", "counted"),))

    async def watch(self, request: bytes, context: Context) -> AsyncIterator[bytes]:
        self.begun += 1
        yield b"begun " + self.name
        await self.go.wait()
        yield b"done " + request
        del context

    async def add(self, requests: AsyncIterator[bytes], context: Context) -> bytes:
        self.calls += 1
        del context
        return b"%d" % sum([int(number) async for number in requests])

    async def talk(self, requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        self.begun += 1
        async for request in requests:
            yield self.name + b" " + request
        del context


@asynccontextmanager
async def serving(
    greeter: Greeter, credentials: grpc.ServerCredentials | None = None, grace: float | None = None
) -> AsyncIterator[Greeter]:
    """Run a server on a port of 127.0.0.1; calls that run at its end have `grace` seconds."""
    server = aio.server(options=_OPTIONS)
    server.add_generic_rpc_handlers((greeter,))
    if credentials is None:
        greeter.port = server.add_insecure_port("127.0.0.1:0")
    else:
        greeter.port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    try:
        yield greeter
    finally:
        await server.stop(grace)


@asynccontextmanager
async def channel(
    port: int, credentials: grpc.ChannelCredentials | None = None, host: str = "shop.example"
) -> AsyncIterator[aio.Channel]:
    """Connect a client, which asks for `host`."""
    options = (*_OPTIONS, ("grpc.default_authority", host), ("grpc.enable_retries", 0))
    address = f"127.0.0.1:{port}"
    if credentials is None:
        made = aio.insecure_channel(address, options=options)
    else:
        made = aio.secure_channel(address, credentials, (*options, ("grpc.ssl_target_name_override", host)))
    async with made:
        yield made


def asking(client: aio.Channel, method: str = "Say") -> aio.UnaryUnaryMultiCallable[bytes, bytes]:
    """Return a method that takes one message and answers with one."""
    made: aio.UnaryUnaryMultiCallable[bytes, bytes] = client.unary_unary(_METHODS + method)
    return made


def watch(client: aio.Channel, text: bytes, method: str = "Watch") -> aio.UnaryStreamCall[bytes, bytes]:
    """Begin a call that is answered by a stream."""
    made: aio.UnaryStreamMultiCallable[bytes, bytes] = client.unary_stream(_METHODS + method)
    return made(text)


def add(client: aio.Channel, numbers: AsyncIterator[bytes]) -> aio.StreamUnaryCall[bytes, bytes]:
    """Begin a call that sends a stream."""
    made: aio.StreamUnaryMultiCallable[bytes, bytes] = client.stream_unary(_METHODS + "Add")
    return made(numbers)


def talk(client: aio.Channel) -> aio.StreamStreamCall[bytes, bytes]:
    """Begin a call with a stream either way."""
    made: aio.StreamStreamMultiCallable[bytes, bytes] = client.stream_stream(_METHODS + "Talk")
    return made()
