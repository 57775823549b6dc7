#!/usr/bin/env bash
# uvicorn on a socket that it was given sends answers with Nagle's algorithm on.
#
# uvicorn 0.54.0 with asyncio of CPython 3.11. asyncio sets TCP_NODELAY on an accepted connection only
# if the listening socket was made with the protocol number of TCP. uvicorn's own `host` and `port`
# give such a socket; one of Python's `socket.create_server`, passed as `sockets=`, has the number 0.
# uvicorn writes head and body of an answer separately, so on a connection that is kept open the body
# waits for the receipt of the head, which Linux delays by 40 ms.
#
# Prints, for both ways, whether TCP_NODELAY is set on the connection that the server accepted. Fails
# when that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check uvicorn==0.54.0 h11==0.16.0 2>/dev/null
cat > ways.py <<'PYTHON'
import asyncio
import socket
import sys
import urllib.request

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

seen = []


class Noting(H11Protocol):
    def connection_made(self, transport):
        super().connection_made(transport)
        opened = transport.get_extra_info("socket")
        seen.append(opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))


async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"an answer"})


async def way(given):
    with socket.create_server(("127.0.0.1", 0)) as made:
        port = made.getsockname()[1]
        if not given:
            made.close()
        server = uvicorn.Server(
            uvicorn.Config(app, port=port, http=Noting, lifespan="off", log_level="error")
        )
        serving = asyncio.create_task(server.serve(sockets=[made] if given else None))
        while not server.started:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(urllib.request.urlopen, f"http://127.0.0.1:{port}/")
        server.should_exit = True
        await serving


for name, given in (("host and port", False), ("a given socket", True)):
    asyncio.run(way(given))
    print(f"{name}: TCP_NODELAY {bool(seen[-1])}")
PYTHON
env/bin/python ways.py | tee out
grep -qx 'host and port: TCP_NODELAY True' out
grep -qx 'a given socket: TCP_NODELAY False' out
echo 'as described'
