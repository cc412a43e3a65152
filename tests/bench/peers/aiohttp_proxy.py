"""The proxy that anybody would write first: ten lines of aiohttp on uvloop. A program of its own."""

import sys

import uvloop
from aiohttp import ClientSession, web


async def forward(request: web.Request) -> web.StreamResponse:
    """Send the request on and the response back."""
    session = request.app["session"]
    url = f"http://127.0.0.1:{sys.argv[2]}{request.raw_path}"
    async with session.request(request.method, url, headers=request.headers, data=request.content) as response:
        return web.Response(status=response.status, headers=response.headers, body=await response.read())


async def make() -> web.Application:
    """Return the application with its session."""
    application = web.Application()
    application["session"] = ClientSession(auto_decompress=False)
    application.router.add_route("*", "/{path:.*}", forward)
    return application


if __name__ == "__main__":
    web.run_app(make(), host="127.0.0.1", port=int(sys.argv[1]), loop=uvloop.new_event_loop(), access_log=None)
