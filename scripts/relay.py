"""A line to a TCP server that can be cut, slow, or half-open. The server behind it is a real one."""

import asyncio, threading


class Connection:
    def __init__(self, dead, writers):
        self.dead, self.writers = dead, writers


class Relay:
    """Forwards connections to a port of this machine, as its `line` lets it:

    - whole: everything passes;
    - cut: connections are reset, new ones too;
    - slow: 20 kB/s each way, for each connection;
    - half-open: connections are taken and nothing passes. Those that were open meanwhile stay dead ever
      after, as behind a router that has forgotten them: only the client's own patience ends them.
    """

    SLOW = 20_000

    def __init__(self, port):
        self.to, self.line = port, "whole"
        self.open = set()
        self.loop = asyncio.new_event_loop()
        ready = threading.Event()
        self.thread = threading.Thread(target=self._run, args=[ready], name="relay", daemon=True)
        self.thread.start()
        ready.wait()

    def set(self, line):
        self.loop.call_soon_threadsafe(self._set, line)

    def _run(self, ready):
        async def listen():
            self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
            self.port = self.server.sockets[0].getsockname()[1]
            ready.set()
        self.loop.run_until_complete(listen())
        self.loop.run_forever()

    def _set(self, line):
        self.line = line
        if line == "half-open":
            for connection in self.open:
                connection.dead = True
        if line == "cut":
            for connection in self.open:
                for writer in connection.writers:
                    writer.transport.abort()

    async def _serve(self, reader, writer):
        if self.line == "cut":
            return writer.transport.abort()
        connection = Connection(self.line == "half-open", [writer])
        self.open.add(connection)
        try:
            far, far_writer = await asyncio.open_connection("127.0.0.1", self.to)
            connection.writers.append(far_writer)
            await asyncio.gather(self._pump(connection, reader, far_writer), self._pump(connection, far, writer))
        except OSError:
            pass
        finally:
            self.open.discard(connection)
            for each in connection.writers:
                each.transport.abort()

    async def _pump(self, connection, reader, writer):
        while data := await reader.read(16_384):
            if connection.dead:
                continue
            if self.line == "slow":
                await asyncio.sleep(len(data) / self.SLOW)
            writer.write(data)
            await writer.drain()
        if not connection.dead and writer.can_write_eof():
            writer.write_eof()
