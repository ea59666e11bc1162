"""Two yamux machines connected by byte queues that the test moves, cut wherever it likes."""

from towline.wire.yamux import Yamux
from towline.wire.yamux_model import Data, Ended, Failed, Limits, Opened, Reset, Stream

BIG = 1 << 24


class End:
    """One machine with what its application saw."""

    def __init__(self, *, is_client, limits=None, accepts=True, monotonic=lambda: 0.0):
        self.yamux = Yamux(is_client=is_client, accepts=accepts, limits=limits, monotonic=monotonic)
        self.wire = bytearray()
        """Bytes that left and have not arrived yet."""
        self.opened: list[Stream] = []
        self.got: dict[int, bytearray] = {}
        self.unread: dict[int, int] = {}
        self.ended: set[int] = set()
        self.reset: dict[int, str] = {}
        self.failed: list[str] = []
        self.log: list[tuple] = []

    def stream(self, stream_id):
        return next(s for s in self.yamux.streams if s.id == stream_id)

    def flush(self, budget=BIG):
        self.yamux.take(self.wire, budget)
        drained, self.yamux.drained[:] = list(self.yamux.drained), []
        return drained

    def feed(self, data):
        events = self.yamux.receive(data)
        for event in events:
            self._note(event)
        return events

    def consume_all(self):
        by_id = {s.id: s for s in self.yamux.streams}
        for stream_id, count in list(self.unread.items()):
            self.unread[stream_id] = 0
            if stream_id in by_id and count:
                self.yamux.consume(by_id[stream_id], count)

    def _note(self, event):
        match event:
            case Opened(stream=stream):
                self.opened.append(stream)
                self.log.append(("opened", stream.id))
            case Data(stream=stream, payload=payload):
                self.got.setdefault(stream.id, bytearray()).extend(payload)
                self.unread[stream.id] = self.unread.get(stream.id, 0) + len(payload)
                if self.log and self.log[-1][:2] == ("data", stream.id):
                    self.log[-1] = ("data", stream.id, self.log[-1][2] + payload)
                else:
                    self.log.append(("data", stream.id, payload))
            case Ended(stream=stream):
                self.ended.add(stream.id)
                self.log.append(("ended", stream.id))
            case Reset(stream=stream, broken_rule=rule):
                self.reset[stream.id] = rule
                self.log.append(("reset", stream.id, rule))
            case Failed(reason=reason):
                self.failed.append(reason)
                self.log.append(("failed", reason))
            case other:
                self.log.append((type(other).__name__.lower(), other))


class Pair:
    """Client `a`, server `b`."""

    def __init__(self, limits: Limits | None = None, monotonic=lambda: 0.0):
        self.a = End(is_client=True, limits=limits, monotonic=monotonic)
        self.b = End(is_client=False, limits=limits, monotonic=monotonic)

    def move(self, source, sink, count=BIG):
        chunk = bytes(source.wire[:count])
        del source.wire[:count]
        return sink.feed(chunk)

    def settle(self, *, consume=True):
        """Move everything until nothing is left to say."""
        while True:
            self.a.flush()
            self.b.flush()
            if not self.a.wire and not self.b.wire:
                return
            self.move(self.a, self.b)
            self.move(self.b, self.a)
            if consume:
                self.a.consume_all()
                self.b.consume_all()
