"""A piece of network between two processes that a test can spoil."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time


class Network:
    """Forwards TCP from `port` to `target`, both on the loopback interface.

    `lost_answers` is the share of the target's answers that get lost: the target has answered, and the connection
    breaks. While `stalled`, nothing is forwarded and nothing is closed. While `cut`, connections are refused.
    """

    def __init__(self, target: int, order: random.Random | None = None) -> None:
        self.target = target
        self.lost_answers = 0.0
        self.lost = 0
        self.stalled = False
        self._cut = False
        self._order = order or random.Random()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def cut(self) -> bool:
        return self._cut

    @cut.setter
    def cut(self, cut: bool) -> None:
        self._cut = cut
        if cut:
            self._break_all()

    def close(self) -> None:
        """Let go of the port and of every connection."""
        self._cut = True
        self._listener.close()
        self._break_all()

    def _break_all(self) -> None:
        with self._lock:
            pairs, self._pairs = self._pairs, set()
        for pair in pairs:
            _break(pair)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                threading.Thread(target=self._connect, args=(near,), daemon=True).start()

    def _connect(self, near: socket.socket) -> None:
        far = None
        with contextlib.suppress(OSError):
            if not self._cut:
                far = socket.create_connection(("127.0.0.1", self.target), timeout=5)
        if far is None:
            near.close()
            return
        far.settimeout(None)
        for one in (near, far):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pair = (near, far)
        with self._lock:
            self._pairs.add(pair)
        threading.Thread(target=self._forward, args=(pair, near, far), daemon=True).start()
        self._forward(pair, far, near)

    def _forward(
        self, pair: tuple[socket.socket, socket.socket], source: socket.socket, sink: socket.socket
    ) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                while self.stalled and not self._cut:
                    time.sleep(0.02)
                if source is pair[1] and self._order.random() < self.lost_answers:
                    self.lost += 1
                    break
                sink.sendall(data)
        with self._lock:
            self._pairs.discard(pair)
        _break(pair)


def _break(pair: tuple[socket.socket, socket.socket]) -> None:
    for one in pair:
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()
