"""`opera-reward serve`: the service in this one process, until Ctrl-C or SIGTERM.

It knows uvicorn, sockets and exit codes; no route. Heavy imports wait until the settings are known to be good.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from opera_client.errors import OperaError
from opera_service.api.loopback import is_loopback
from opera_service.observability.logs import configure
from opera_service.server.connections import LoopErrors, OnceASecond, protocol
from opera_service.server.flags import load_settings
from opera_service.server.lifecycle import Lifecycle
from opera_service.server.settings import Settings, SettingsError

SWITCH_INTERVAL_S = 0.0005
WAITING_CONNECTIONS = 2048
"""How many may wait in the kernel: a trainer opens hundreds at once."""
ACCEPTED_AT_ONCE = 8
"""How many are accepted before the event loop does something else: each costs it about 0.3 ms."""


def run(argv: list[str]) -> int:
    """Serve rewards over HTTP until interrupted."""
    try:
        settings = load_settings(argv)
        listener = _listen(settings.host, settings.port)
        _refuse_if_open(settings, listener)
        _check_certificate(settings)
    except SettingsError as error:
        return _refuse(str(error))
    # Whoever sends it wants files to be read again, which happens by itself; by default it would end the process.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    configure(settings.log_level, settings.log_format, quote=settings.log_prompts)
    # The device thread asks for the interpreter between any two kernels; at the usual 5 ms a request that is being
    # encoded keeps it waiting each time (docs/performance.md, Serving).
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    with listener:
        try:
            return asyncio.run(_serve(settings, listener))
        except SettingsError as error:
            return _refuse(str(error))


def _listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; taken before the model is loaded, so that a taken port is known at once."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(WAITING_CONNECTIONS)
    except OSError as error:
        reason = error.strerror or str(error)
        raise SettingsError(
            f"cannot listen on {host}:{port}: {reason}; choose another --host or --port (0 picks a free port)"
        ) from None
    return listener


async def _serve(settings: Settings, listener: socket.socket) -> int:
    from opera_service.server.app import create_app

    app = create_app(settings, wait=False)
    lifecycle: Lifecycle = app.state.lifecycle
    server = GracefulServer(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            backlog=ACCEPTED_AT_ONCE,
            lifespan="on",
            http=protocol(settings.max_connections, settings.head_timeout_s),
            ssl_certfile=settings.ssl_certfile,
            ssl_keyfile=settings.ssl_keyfile,
            timeout_graceful_shutdown=max(1, round(settings.drain_timeout)),
        ),
        lifecycle,
    )
    asyncio.get_running_loop().set_exception_handler(LoopErrors())
    logging.getLogger("uvicorn.error").addFilter(OnceASecond())
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    loading = asyncio.create_task(lifecycle.ready())
    await asyncio.wait({serving, loading}, return_when=asyncio.FIRST_COMPLETED)
    failure: OperaError | None = None
    if loading.done():
        try:
            model = loading.result().served_model()
            url = _url(listener, "https" if settings.ssl_certfile else "http")
            print(
                f"opera-reward serves {model.name} ({model.engine}, {model.route}, {model.dtype}) at {url}",
                flush=True,
            )
            if settings.allow_open and not settings.keys:
                _say("anybody who reaches this address can use the service (--allow-open)")
        except OperaError as error:
            failure, server.should_exit = error, True
    loading.cancel()
    await serving
    if lifecycle.stuck:
        os._exit(0)
    return 0 if failure is None else _refuse(" ".join(failure.message.split()))


class GracefulServer(uvicorn.Server):
    """Takes SIGINT and SIGTERM as a wish to drain; uvicorn itself would die of them after draining."""

    def __init__(self, config: uvicorn.Config, lifecycle: Lifecycle) -> None:
        super().__init__(config)
        self._lifecycle = lifecycle

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen; asyncio takes one number for how many may wait and how many it accepts at a stretch."""
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(WAITING_CONNECTIONS)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._leave, number)
        yield

    def _leave(self, number: int) -> None:
        if self.should_exit:  # the second signal: now
            os._exit(128 + number)
        self._lifecycle.drain()
        self.handle_exit(number, None)


def _url(listener: socket.socket, scheme: str) -> str:
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _refuse_if_open(settings: Settings, listener: socket.socket) -> None:
    """Raise `SettingsError` when anybody on a network could use the service without having been told aloud."""
    host = listener.getsockname()[0]
    if not (settings.keys or settings.allow_open or is_loopback(host)):
        listener.close()
        raise SettingsError(
            f"anybody who reaches {host} could use this service; give --api-key-file, or say --allow-open"
        )


def _check_certificate(settings: Settings) -> None:
    if settings.ssl_certfile is None:
        return
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # The empty password: an encrypted key must not stop the start with a question on the terminal.
        context.load_cert_chain(settings.ssl_certfile, settings.ssl_keyfile, password="")
    except (OSError, ValueError) as error:
        raise SettingsError(f"ssl_certfile: {settings.ssl_certfile} and its key cannot be used: {error}") from None


def _say(line: str) -> None:
    print(f"opera-reward serve: {line}", file=sys.stderr, flush=True)


def _refuse(reason: str) -> int:
    _say(reason)
    return 2
