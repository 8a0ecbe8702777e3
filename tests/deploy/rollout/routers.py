"""The two ways a request finds a pod: by connection, like kube-proxy, and by a hashed header, like an ingress.

Both list only pods that are ready. Neither retries, buffers or repairs anything.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from itertools import count

from .kubelet import Pod


class Routers:
    """Two listening ports in front of `pods`, which may change while they run."""

    def __init__(self, pods: list[Pod], header: str) -> None:
        self.pods = pods
        self._header = header.lower().encode()
        self._turn = count()
        self.used: Counter[str] = Counter()
        """Connections (of the service) and requests (of the ingress) by pod."""
        self.refused = 0
        """Connections that a listed pod did not take."""
        self.service_url = self.ingress_url = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        service = await asyncio.start_server(self._by_connection, "127.0.0.1", 0)
        ingress = await asyncio.start_server(self._by_group, "127.0.0.1", 0, limit=2**24)
        self.service_url, self.ingress_url = (
            f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}" for server in (service, ingress)
        )
        async with service, ingress:
            yield

    async def _by_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Choose a pod when the connection opens; it stays there, also when the pod is listed no more."""
        ready = self._ready()
        await self._joined(ready[next(self._turn) % len(ready)], b"", reader, writer)

    async def _by_group(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Choose a pod by the header's value, one request a connection; pods that come or go move few groups."""
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        fields = dict(line.split(b": ", 1) for line in lines[1:] if b": " in line)
        group = {name.lower(): value for name, value in fields.items()}[self._header]
        pod = max(self._ready(), key=lambda one: sha256(one.name.encode() + group).digest())
        kept = [line for line in lines[:-2] if not line.lower().startswith(b"connection:")]
        await self._joined(pod, b"\r\n".join([*kept, b"Connection: close", b"", b""]), reader, writer)

    def _ready(self) -> Sequence[Pod]:
        return [pod for pod in self.pods if pod.ready]

    async def _joined(
        self, pod: Pod, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Copy both ways until either side closes."""
        self.used[pod.name] += 1
        try:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", pod.port)
        except OSError:
            self.refused += 1
        else:
            there_writer.write(first)
            back = asyncio.create_task(_copy(there_reader, writer))
            forth = asyncio.create_task(_copy(reader, there_writer))
            await asyncio.wait({back, forth}, return_when=asyncio.FIRST_COMPLETED)
            for copying in (back, forth):
                copying.cancel()
            there_writer.close()
        writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(2**16):
            writer.write(data)
            await writer.drain()
