"""A small authoritative DNS server that takes updates by RFC 2136 with TSIG, for tests of DNS-01.

Every name below the zone is 127.0.0.1; TXT records are those that updates made.
"""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import dns.tsig
import dns.update

KEY_NAME = "towline-key."
SECRET = "bWFkZSB1cCBmb3IgdGVzdHMsIG5vdCBhIHNlY3JldCE="


@dataclass
class DnsServer:
    """A running server of one zone, with a record of what it was asked to change."""

    zone: str
    port: int = 0
    texts: dict[str, list[str]] = field(default_factory=dict)
    history: list[tuple[str, str, str]] = field(default_factory=list)
    keyring: dict[Any, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        name = dns.name.from_text(KEY_NAME)
        self.keyring = {name: dns.tsig.Key(name, SECRET, dns.tsig.HMAC_SHA256)}

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def key_file(self, secret: str = SECRET) -> str:
        """What `tsig-keygen` writes."""
        return f'key "{KEY_NAME.rstrip(".")}" {{\n\talgorithm hmac-sha256;\n\tsecret "{secret}";\n}};\n'

    def answer(self, wire: bytes) -> bytes:
        try:
            message = dns.message.from_wire(wire, keyring=self.keyring)
        except (dns.tsig.BadSignature, dns.message.UnknownTSIGKey):
            refused = dns.message.Message(id=struct.unpack("!H", wire[:2])[0])
            refused.flags |= dns.flags.QR
            refused.set_opcode(dns.opcode.UPDATE)
            refused.set_rcode(dns.rcode.NOTAUTH)
            return refused.to_wire()
        reply = dns.message.make_response(message)
        if isinstance(message, dns.update.UpdateMessage):
            reply.set_rcode(self._update(message) if message.had_tsig else dns.rcode.REFUSED)
        else:
            self._look_up(message, reply)
        return reply.to_wire()

    def _update(self, message: dns.update.UpdateMessage) -> dns.rcode.Rcode:
        if message.zone[0].name != dns.name.from_text(self.zone):
            return dns.rcode.NOTZONE
        for change in message.update:
            name = str(change.name).rstrip(".").lower()
            held = self.texts.setdefault(name, [])
            for record in change:
                text = b"".join(record.strings).decode()
                if change.deleting == dns.rdataclass.NONE:
                    self.history.append(("remove", name, text))
                    held.remove(text)
                else:
                    self.history.append(("add", name, text))
                    held.append(text)
        return dns.rcode.NOERROR

    def _look_up(self, message: dns.message.Message, reply: dns.message.Message) -> None:
        question = message.question[0]
        name, kind = str(question.name).rstrip(".").lower(), question.rdtype
        reply.flags |= dns.flags.AA
        values: list[str] = []
        if kind == dns.rdatatype.A:
            values = ["127.0.0.1"]
        elif kind == dns.rdatatype.TXT:
            values = [f'"{text}"' for text in self.texts.get(name, [])]
        elif kind == dns.rdatatype.SOA and name == self.zone:
            values = [f"ns.{self.zone}. admin.{self.zone}. 1 60 60 60 60"]
        if values:
            reply.answer.append(dns.rrset.from_text(question.name, 1, dns.rdataclass.IN, kind, *values))


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, address: Any) -> None:
        assert self._transport is not None
        self._transport.sendto(self._server.answer(data), address)


@asynccontextmanager
async def running_dns(zone: str) -> AsyncIterator[DnsServer]:
    """A server on a free port of 127.0.0.1, for UDP and TCP."""
    server = DnsServer(zone)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                length = struct.unpack("!H", await reader.readexactly(2))[0]
                reply = server.answer(await reader.readexactly(length))
                writer.write(struct.pack("!H", len(reply)) + reply)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    loop = asyncio.get_running_loop()
    datagrams, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(server), ("127.0.0.1", server.port))
    try:
        yield server
    finally:
        datagrams.close()
        listener.close()
        await listener.wait_closed()
